"""The tasks that the tiny model is taught, by name."""

from typing import Any

from harness.tasks.chain_sum import GRADED
from harness.tasks.demonstrated import Demonstrated
from harness.tasks.retry import RETRIES

TASKS: tuple[Demonstrated[Any], ...] = (GRADED, *RETRIES.values())
DEMONSTRATED = {task.name: task for task in TASKS}
