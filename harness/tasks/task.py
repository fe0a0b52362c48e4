"""The interface of a task, which draws problems and grades responses, and the split of prompts by hash."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal, Protocol, get_args

import numpy as np

from harness.console import doing
from harness.model.policy import Policy

Split = Literal["train", "tuning_train", "report", "tune"]
Outcome = Literal["right", "wrong", "unchecked"]

PARTS = 16  # prompts are split by their hash into this many parts of equal expected size
SPLITS: dict[Split, range] = {
    "report": range(1),  # held out from everything
    "tune": range(1, 2),  # held out from tuning runs; the shared warm start may have used some of it
    "train": range(1, PARTS),
    "tuning_train": range(2, PARTS),
}
MOST_MISSES = 2000  # draws in a row without a new prompt, after which a task has no more
TRAINED_ON: dict[str, Split] = {"report": "train", "tune": "tuning_train"}  # evaluation split to training split


Message = tuple[str, str]  # role, content


@dataclass(frozen=True)
class Question:
    """A problem without instructions, its answer, and the messages that precede it in the data set."""

    text: str
    answer: str
    before: tuple[Message, ...] = ()  # a system message, earlier turns

    @property
    def words(self) -> str:
        """The problem's text with normalized spacing, without the messages before it."""
        return one_line(self.text)

    @property
    def messages(self) -> tuple[Message, ...]:
        return (*self.before, ("user", self.text))

    @property
    def identity(self) -> str:
        """A key that is equal for equal questions: all messages and the problem, one line each, spacing normalized."""
        return "\n".join(map(one_line, (*chain(*self.before), self.text)))


def one_line(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True)
class Problem:
    """A question as the model sees it, and its right answer."""

    prompt: str
    answer: str

    @cached_property
    def prompt_id(self) -> str:
        """The prompt's identity in records and random streams: the first 64 bits of its sha256, in hex."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Grade:
    """The grade of a response. An answer that could not be checked is neither right nor wrong."""

    outcome: Outcome
    answer: str | None = None  # as spelled in the response
    why: str | None = None  # why it is wrong or unchecked, if known: "no answer", "time"
    lenient: bool | None = None  # whether it is right when its answer is read leniently; None: as by `outcome`

    @property
    def is_valid(self) -> bool:
        """Whether the fields hold what they should; a grade may come from a task of the user's own."""
        is_text = all(one is None or isinstance(one, str) for one in (self.answer, self.why))
        return self.outcome in get_args(Outcome) and is_text and self.lenient in (None, True, False)

    @property
    def is_right_leniently(self) -> bool:
        return self.outcome == "right" if self.lenient is None else self.lenient


class Task(Protocol):
    @property
    def facts(self) -> Mapping[str, Any]:
        """What environment.json records about the task's data."""

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        """Draw `count` problems that are not in `seen`, or as many as are left, and add their ids to `seen`."""

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        """The evaluation problems, at most `count` per benchmark; identical in every run of the task."""

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """The grade of each response, in order. Responses that were cut at the token limit are not passed in."""

    def self_test(self) -> None:
        """Raise HarnessError if a known right or wrong response is graded incorrectly. Called before training."""

    def first_wrong_step(self, problem: Problem, response: str) -> tuple[int, int] | None:
        """The character span [start, end) of the first wrong step, or None if every step is right."""

    def steps(self, response: str) -> list[tuple[int, int]]:
        """The character spans [start, end) of all steps, in order, without gaps or overlaps."""

    def behaviour(self, responses: Sequence[tuple[Problem, str]]) -> Mapping[str, float | None]:
        """What else metrics.jsonl records about a step's responses, by name; None where it is not defined."""

    def close(self) -> None:
        """Stop the task's worker processes, if any."""


class Generator(Protocol):
    def draw(self, generator: np.random.Generator) -> Problem: ...


def belongs_to(problem: Problem, split: Split) -> bool:
    """Whether the prompt's hash puts it in the split, so that training and evaluation never share a prompt."""
    return int(problem.prompt_id, 16) % PARTS in SPLITS[split]


def draw_distinct(
    task: Generator, split: Split, count: int, generator: np.random.Generator, seen: set[str] | None = None
) -> list[Problem]:
    """Draw `count` distinct problems of the split that are not in `seen`, and add their ids to `seen`.

    Raises ValueError if too few are found.
    """
    seen = set() if seen is None else seen
    problems: list[Problem] = []
    misses = 0
    while len(problems) < count:
        doing(f"drawing questions: {len(problems)} of {count}")
        problem = task.draw(generator)
        misses += 1
        if belongs_to(problem, split) and problem.prompt_id not in seen:
            seen.add(problem.prompt_id)
            problems.append(problem)
            misses = 0
        if misses == MOST_MISSES:
            raise ValueError(
                f"expected {count} different prompts of the split {split}, found {len(problems)} and no other in "
                f"{MOST_MISSES} draws: lower --eval_prompts or --prompts_per_step, or make more questions"
            )
    return problems


def prompt_hashes(policy: Policy, problems: Iterable[Problem], kind: str) -> dict[str, str]:
    """Hashes of the prompts as text and as tokens, which detect changes of data, chat template or tokenizer."""
    prompts = [problem.prompt for problem in problems]
    tokens = json.dumps([policy.encode(prompt) for prompt in prompts])
    return {
        f"{kind}_prompts_sha256": hashlib.sha256("\n".join(prompts).encode()).hexdigest(),
        f"{kind}_tokens_sha256": hashlib.sha256(tokens.encode()).hexdigest(),
    }
