"""What a question is asked with."""

from dataclasses import dataclass

from harness.config import Config
from harness.engine import Actors
from harness.policy import Policy
from harness.task import Task


@dataclass(frozen=True)
class Asking:
    """Who is asked what, and how."""

    policy: Policy
    task: Task
    config: Config
    actors: Actors
