"""The interface of tasks that come with demonstrations, from which the tiny model learns their notation."""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from harness.errors import HarnessError
from harness.randomness import stream
from harness.tasks.task import Grade, Problem, Span, Split, Task, draw_distinct

LETTERS = "abcdefghijklmn"
CHARACTERS = ":=#?" + "0123456789" + LETTERS  # of every prompt and response of every such task

Style = TypeVar("Style")


@dataclass(frozen=True)
class Stage(Generic[Style]):
    """A stage of the warm start: problems, demonstration styles and optimizer steps.

    With `until_accuracy` the stage ends as soon as the model is that accurate, which must happen within `steps`. Sums
    are learned in sharp transitions, which occur at different steps on different machines.
    """

    terms: tuple[int, int]  # minimum and maximum
    styles: tuple[tuple[float, Style], ...]  # share of the demonstrations, style
    steps: int
    lr: float
    until_accuracy: float | None = None


@dataclass(frozen=True)
class Demonstrated(Task, Generic[Style]):
    """A task that makes its own problems and demonstrates answers. Its repr is part of the cached model's key."""

    name: str
    modulus: int
    terms: tuple[int, int]  # minimum and maximum number of terms in a prompt
    stages: tuple[Stage[Style], ...]

    STEP: ClassVar[re.Pattern[str]]  # a step of a response
    ANSWER: ClassVar[re.Pattern[str]]  # a whole response that hands in one answer, which is the group

    @property
    @abstractmethod
    def prompt_tokens(self) -> tuple[float, int]:
        """Characters of the average and of the longest prompt."""

    @abstractmethod
    def draw_with(self, generator: np.random.Generator, terms: tuple[int, int]) -> Problem:
        """A problem with uniform digits; the number of terms is uniform between `terms[0]` and `terms[1]`."""

    @abstractmethod
    def demonstration(self, problem: Problem, style: Style, generator: np.random.Generator) -> str:
        """A response in the given style."""

    def draw(self, generator: np.random.Generator) -> Problem:
        return self.draw_with(generator, self.terms)

    def draw_problems(self, split: Split, count: int, generator: np.random.Generator, seen: set[str]) -> list[Problem]:
        return draw_distinct(self, split, count, generator, seen)

    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        return held_out_problems(self, split, count)

    def extract_answer(self, response: str) -> str | None:
        match = self.ANSWER.fullmatch(response)
        return match[1] if match else None

    @abstractmethod
    def is_right(self, problem: Problem, response: str) -> bool: ...

    def grade(self, responses: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return [
            Grade("right" if self.is_right(problem, text) else "wrong", self.extract_answer(text))
            for problem, text in responses
        ]

    def steps(self, response: str) -> list[Span]:
        return [step.span() for step in self.STEP.finditer(response)]

    @abstractmethod
    def examples(self, problem: Problem) -> list[str]:
        """Responses of which the first is right and the others are wrong, for the self-test."""

    def self_test(self) -> None:
        """Raise HarnessError unless `examples` are graded as they should be."""
        problem = self.draw(stream("self-test"))
        responses = self.examples(problem)
        outcomes = [grade.outcome for grade in self.grade([(problem, response) for response in responses])]
        if outcomes != ["right", *["wrong"] * (len(responses) - 1)]:
            raise HarnessError(f"self-test of the task: expected one right answer of {responses}, got {outcomes}")


@lru_cache
def held_out_problems(task: Demonstrated[Any], split: Split, count: int) -> tuple[Problem, ...]:
    key = "held-out prompts" if split == "report" else f"held-out prompts, {split}"
    return tuple(draw_distinct(task, split, count, stream(key, task.name)))
