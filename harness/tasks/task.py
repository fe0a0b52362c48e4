"""The interface of a task, which draws problems and grades responses, and the split of prompts by hash."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal, Protocol

import numpy as np

from harness.console import doing
from harness.errors import UsageError
from harness.model.policy import Policy

Split = Literal["train", "tuning_train", "report", "tune"]
Outcome = Literal["right", "wrong", "unchecked"]
Span = tuple[int, int]  # start and end, in characters

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

    def messages(self, around: tuple[str, str] = ("", "")) -> tuple[Message, ...]:
        """All messages, with instructions around the text of the last."""
        return (*self.before, ("user", f"{around[0]}{self.text}{around[1]}"))

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
    def is_right_leniently(self) -> bool:
        return self.outcome == "right" if self.lenient is None else self.lenient


class Task(Protocol):
    """What a run needs of a task. Those whose steps can be checked override `first_wrong_step` and `steps`."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What environment.json records about the task's data."""
        return {}

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        """Draw `count` problems that are not in `seen`, or as many as are left, and add their ids to `seen`."""

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        """The evaluation problems, at most `count` per benchmark; identical in every run of the task."""

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """The grade of each response, in order. Responses that were cut at the token limit are not passed in."""

    def self_test(self) -> None:
        """Raise HarnessError if a known right or wrong response is graded incorrectly. Called before training."""

    def first_wrong_step(self, problem: Problem, response: str) -> Span | None:  # noqa: ARG002
        """The character span [start, end) of the first wrong step, or None if every step is right or it is unknown."""
        return None

    def steps(self, response: str) -> list[Span]:
        """The character spans [start, end) of all steps, in order, without gaps or overlaps."""
        return [(0, len(response))]

    def behaviour(self, responses: Sequence[tuple[Problem, str]]) -> Mapping[str, float | None]:  # noqa: ARG002
        """What else metrics.jsonl records about a step's responses, by name; None where it is not defined."""
        return {}

    def close(self) -> None:
        """Stop the task's worker processes, if any."""


def belongs_to(problem: Problem, split: Split) -> bool:
    """Whether the prompt's hash puts it in the split, so that training and evaluation never share a prompt."""
    return int(problem.prompt_id, 16) % PARTS in SPLITS[split]


class GeneratedTask(Task):
    """A task that makes its problems one by one."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Problem:
        """A problem that depends on the generator alone."""

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        """As `Task.draw_problems`. Raises UsageError if fewer than `count` are found."""
        problems: list[Problem] = []
        while len(problems) < count:
            doing(f"drawing questions: {len(problems)} of {count}")
            draws = (self.draw(generator) for _ in range(MOST_MISSES))
            new = next((one for one in draws if belongs_to(one, split) and one.prompt_id not in seen), None)
            if new is None:
                raise UsageError(
                    f"--task: expected {count} different prompts of the split {split}, found {len(problems)} and no "
                    f"other in {MOST_MISSES} draws: lower --eval_prompts or --prompts_per_step, or make more questions"
                )
            seen.add(new.prompt_id)
            problems.append(new)
        return problems


def prompt_hashes(policy: Policy, problems: Iterable[Problem], kind: str) -> dict[str, str]:
    """Hashes of the prompts as text and as tokens, which detect changes of data, chat template or tokenizer."""
    prompts = [problem.prompt for problem in problems]
    tokens = json.dumps([policy.encode(prompt) for prompt in prompts])
    return {
        f"{kind}_prompts_sha256": hashlib.sha256("\n".join(prompts).encode()).hexdigest(),
        f"{kind}_tokens_sha256": hashlib.sha256(tokens.encode()).hexdigest(),
    }
