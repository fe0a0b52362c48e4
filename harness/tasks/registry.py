"""Creates the task that the config names."""

from harness.config.schema import Config
from harness.model.policy import Policy
from harness.tasks.chain_sum import CHAIN_SUMS
from harness.tasks.math.data import MathData, read_data
from harness.tasks.task import Task


def make_task(config: Config, policy: Policy, data: MathData | None = None) -> Task:
    """The task, with prompts formatted for the policy's tokenizer. Reads the data files unless `data` is given."""
    if config.task.task != "math":
        return CHAIN_SUMS[config.task.task]
    from harness.tasks.math.task import math_task

    return math_task(data or read_data(config.data), config.data, policy)
