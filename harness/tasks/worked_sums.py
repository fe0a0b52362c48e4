"""Sums worked out in steps, for a model of 135 million parameters: `3 + 8 + 5` is `3 + 8 = 11`, then `11 + 5 = 16`.

A step is right if it adds the next number to the last result; so the first wrong step of a response is known.
"""

import re
from dataclasses import dataclass

import numpy as np

from harness.tasks.task import Question

STEP = re.compile(r"[^\n]+\n?|\n")
SUM = re.compile(r"\s*(\d{1,9}) ?\+ ?(\d{1,9}) ?= ?(\d{1,9})\s*", re.ASCII)
INTRODUCTION = (("system", "You add numbers."), ("user", "3 + 8 + 5"), ("assistant", "3 + 8 = 11\n11 + 5 = 16"))


@dataclass(frozen=True)
class WorkedSums:
    """Sums of `terms` numbers from 1 to `largest`."""

    terms: int = 3
    largest: int = 40

    def question(self, generator: np.random.Generator) -> Question:
        numbers = generator.integers(1, self.largest + 1, size=self.terms).tolist()
        return Question(" + ".join(map(str, numbers)), str(sum(numbers)), before=INTRODUCTION)

    def grade(self, question: Question, response: str) -> bool:
        """Whether the last number is the sum, however it was reached."""
        numbers = re.findall(r"\d+", response, re.ASCII)
        return bool(numbers) and numbers[-1] == question.answer

    def steps(self, response: str) -> list[tuple[int, int]]:
        return [match.span() for match in STEP.finditer(response)]

    def first_wrong_step(self, question: Question, response: str) -> tuple[int, int] | None:
        """The first line that does not add the next number to the result so far; else the last, if numbers are left."""
        result, *numbers = map(int, question.text.split(" + "))
        spans = self.steps(response)
        for span in spans:
            step = SUM.fullmatch(response, *span)
            if not step or not numbers or int(step[1]) != result or int(step[2]) != numbers.pop(0):
                return span
            result += int(step[2])
            if int(step[3]) != result:
                return span
        return spans[-1] if numbers and spans else None
