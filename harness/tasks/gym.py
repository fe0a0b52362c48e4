"""Tasks of Reasoning Gym, reasoning_gym:NAME: questions made by a program, and their verifiers.

The answer is read as Reasoning Gym (github.com/open-thought/reasoning-gym) reads it, between the last <answer> and
</answer>; its own system prompt asks for that. It is right if the verifier gives it the full score. Leniently, a
response without the tags is right if its last line or the whole of it is.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import HarnessError, UsageError
from harness.tasks.math.answers import SPECIAL
from harness.tasks.task import Grade, Question
from harness.tasks.workers import Reply, Workers

WORKER = Path(__file__).with_name("gym_worker.py")
LIMIT_S = 20.0  # CPU time for a question or an answer; the slowest data sets take a second for a question


@dataclass(frozen=True)
class GymQuestion(Question):
    seed: int = 0  # of the data set whose only entry it is


class Gym:
    """The maker of one task. Raises UsageError without the package, ValueError for a wrong name or wrong settings."""

    def __init__(self, name: str, /, **settings: Any) -> None:
        if importlib.util.find_spec("reasoning_gym") is None:
            raise UsageError(
                f"--task reasoning_gym:{name}: expected the package reasoning-gym, found none: "
                "run python -m pip install reasoning-gym==0.1.25"
            )
        self.name, self.settings = name, json.dumps(settings)
        self.workers = Workers(WORKER, busy=1, limit_s=LIMIT_S)
        outcome, said = self.ask(None, None)
        if outcome != "known":
            self.close()
            raise ValueError(said)
        self.introduction = (("system", said),)

    def ask(self, seed: int | None, response: str | None) -> Reply:
        return self.workers.reply((self.name, self.settings, seed, response))

    def question(self, generator: np.random.Generator) -> GymQuestion:
        seed = int(generator.integers(2**31))
        outcome, text, answer = (*self.ask(seed, None), "")[:3]
        if outcome != "question":
            raise HarnessError(
                f"--task reasoning_gym:{self.name}: expected a question for seed {seed}, got none ({text}): "
                "choose easier --task_settings"
            )
        return GymQuestion(text, answer, self.introduction, seed)

    def grade(self, question: GymQuestion, response: str) -> Grade:
        outcome, why, *read = self.ask(question.seed, SPECIAL.sub("\n", response))
        answer, lenient = read or (None, None)
        return Grade(outcome, answer, why, lenient)

    def close(self) -> None:
        self.workers.close()
