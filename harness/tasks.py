"""The task that a config names."""

from harness.chain_sum import TASKS
from harness.config import Config
from harness.math_data import MathData, read_data
from harness.policy import Policy
from harness.task import Task


def make_task(config: Config, policy: Policy, data: MathData | None = None) -> Task:
    """The task, its prompts as the policy's tokenizer wants them; `data` is what `read_data` gave before, if it did."""
    if config.task.task != "math":
        return TASKS[config.task.task]
    from harness.math_task import math_task

    return math_task(data or read_data(config.data), config.data, policy)
