"""The interface of tasks that come with demonstrations, from which the tiny model learns their notation."""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Generic, TypeVar

import numpy as np

from harness.randomness import stream
from harness.tasks.task import GeneratedTask, Grade, Problem, Span, Split

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
class Demonstrated(GeneratedTask, Generic[Style]):
    """A generated task that demonstrates answers. Its repr is part of the cached model's key."""

    name: str
    modulus: int
    terms: tuple[int, int]  # minimum and maximum number of terms in a prompt
    stages: tuple[Stage[Style], ...]

    STEP: ClassVar[re.Pattern[str]]  # a step of a response
    ANSWER: ClassVar[re.Pattern[str]]  # a whole response that hands in one answer, which is the group

    @property
    @abstractmethod
    def longest_prompt(self) -> int:
        """Its characters, which are tokens."""

    @abstractmethod
    def draw_with(self, generator: np.random.Generator, terms: tuple[int, int]) -> Problem:
        """A problem with uniform digits; the number of terms is uniform between `terms[0]` and `terms[1]`."""

    @abstractmethod
    def demonstration(self, problem: Problem, style: Style, generator: np.random.Generator) -> str:
        """A response in the given style."""

    def draw(self, generator: np.random.Generator) -> Problem:
        return self.draw_with(generator, self.terms)

    @lru_cache  # noqa: B019 - the tasks live as long as the process
    def held_out(self, split: Split, count: int) -> tuple[Problem, ...]:
        key = "held-out prompts" if split == "report" else f"held-out prompts, {split}"
        return tuple(self.draw_problems(split, count, stream(key, self.name), set()))

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
