"""What a question is asked with."""

from dataclasses import dataclass

from harness.config.schema import Config
from harness.model.policy import Policy
from harness.rollouts.engine import Actors
from harness.tasks.task import Task


@dataclass(frozen=True)
class Asking:
    """Who is asked what, and how."""

    policy: Policy
    task: Task
    config: Config
    actors: Actors
