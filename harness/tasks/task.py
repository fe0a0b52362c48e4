"""The task interface: draws problems and grades responses."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from harness.model.policy import Policy

Split = Literal["train", "tuning_train", "report", "tune"]
Outcome = Literal["right", "wrong", "unchecked"]

PARTS = 16  # prompts are split by their hash into this many parts of equal size
SPLITS: dict[Split, range] = {
    "report": range(1),  # held out from everything
    "tune": range(1, 2),  # held out from runs whose settings are tuned on it; the shared warm start may show some
    "train": range(1, PARTS),
    "tuning_train": range(2, PARTS),
}
TRAINED_ON: dict[str, Split] = {"report": "train", "tune": "tuning_train"}  # by evaluation split


@dataclass(frozen=True)
class Problem:
    prompt: str
    answer: str

    @cached_property
    def prompt_id(self) -> str:
        """Identity of the prompt in records and random streams: the first 64 bits of its sha256, in hex."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Grade:
    """One response's grade. An answer that could not be checked is neither right nor wrong."""

    outcome: Outcome
    answer: str | None = None  # as it stands in the response
    why: str | None = None  # the reason for wrong or unchecked, if any: "no answer", "time"


class Task(Protocol):
    @property
    def facts(self) -> Mapping[str, Any]:
        """What environment.json records about the task's data."""

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        """`count` training problems, or all that are left, none in `seen`, to which theirs are added."""

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        """The evaluation problems, at most `count` per benchmark; the same in every run of the task."""

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """The grade of each complete response, in order."""

    def self_test(self) -> None:
        """Raise HarnessError unless known right and wrong responses are graded as such; called before training."""

    def first_wrong_step(self, problem: Problem, response: str) -> tuple[int, int] | None:
        """The characters [start, end) of the first wrong step, or None if every step is right."""

    def steps(self, response: str) -> list[tuple[int, int]]:
        """The characters [start, end) of every step, in order, without gap or overlap."""

    def close(self) -> None:
        """End the task's worker processes, if any."""


class Generator(Protocol):
    def draw(self, generator: np.random.Generator) -> Problem: ...


def belongs_to(problem: Problem, split: Split) -> bool:
    """Whether the prompt's hash puts it in the split; so training and evaluation cannot share a prompt."""
    return int(problem.prompt_id, 16) % PARTS in SPLITS[split]


def draw_distinct(
    task: Generator, split: Split, count: int, generator: np.random.Generator, seen: set[str] | None = None
) -> list[Problem]:
    """`count` distinct problems of the split, none in `seen`, to which theirs are added; ValueError if too few."""
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


def prompt_hashes(policy: Policy, problems: Iterable[Problem], kind: str) -> dict[str, str]:
    """Hashes of the prompts as text and as tokens: they change with data, chat template or tokenizer."""
    prompts = [problem.prompt for problem in problems]
    tokens = json.dumps([policy.encode(prompt) for prompt in prompts])
    return {
        f"{kind}_prompts_sha256": hashlib.sha256("\n".join(prompts).encode()).hexdigest(),
        f"{kind}_tokens_sha256": hashlib.sha256(tokens.encode()).hexdigest(),
    }
