"""What a task is: problems from a random generator, and a grader of responses."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from harness.tasks.grades import Grade

Split = Literal["train", "tuning_train", "report", "tune"]

PARTS = 16  # prompts are dealt into so many parts of one size by their hash
SPLITS: dict[Split, range] = {
    "report": range(1),  # held out from everything
    "tune": range(1, 2),  # held out from the runs that choose settings by them; the shared warm start may show some
    "train": range(1, PARTS),
    "tuning_train": range(2, PARTS),
}
TRAINED_ON: dict[str, Split] = {"report": "train", "tune": "tuning_train"}  # beside each evaluation split


@dataclass(frozen=True)
class Problem:
    """A prompt and its right answer."""

    prompt: str
    answer: str

    @cached_property
    def prompt_id(self) -> str:
        """Identity of the prompt in every record and random stream: the first 64 bits of its sha256."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()[:16]


class Task(Protocol):
    """A source of problems with checkable answers."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What environment.json says of its data, if it has any."""

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        """`count` problems to train on, none of `seen` (which grows): fewer only where there are no more."""

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        """The evaluation prompts, `count` at most of each benchmark: the same in every run of the task."""

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """The grade of each complete response, in order."""

    def self_test(self) -> None:
        """Raise HarnessError unless known right and wrong responses are graded as such; called before training."""

    def first_wrong_step(self, problem: Problem, response: str) -> tuple[int, int] | None:
        """The characters [start, end) of the first step that is wrong, or None where every step is right."""

    def steps(self, response: str) -> list[tuple[int, int]]:
        """The characters [start, end) of every step, in order, without gap or overlap."""

    def close(self) -> None:
        """End what the task keeps running, if anything."""


class Generator(Protocol):
    """What makes problems one by one."""

    def draw(self, generator: np.random.Generator) -> Problem:
        """One problem."""


def belongs_to(problem: Problem, split: Split) -> bool:
    """Whether the prompt is of the split: decided by its hash, so training and evaluation cannot share one."""
    return int(problem.prompt_id, 16) % PARTS in SPLITS[split]


def draw_distinct(
    task: Generator, split: Split, count: int, generator: np.random.Generator, seen: set[str] | None = None
) -> list[Problem]:
    """`count` problems of the split, no two alike and none whose prompt_id is in `seen` (which grows)."""
    seen = set() if seen is None else seen
    problems: list[Problem] = []
    for _ in range(1000 * count):
        problem = task.draw(generator)
        if belongs_to(problem, split) and problem.prompt_id not in seen:
            seen.add(problem.prompt_id)
            problems.append(problem)
            if len(problems) == count:
                return problems
    raise ValueError(f"the task has too few {split} prompts: expected {count} new ones, found {len(problems)}")
