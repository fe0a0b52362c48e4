"""A built-in task: sums of tagged digits, solved in steps whose size trades length for accuracy.

A prompt `a2b0c3d1:` asks for (2 + 0 + 3 + 1) mod m. A response merges a few terms per step and writes the running sum,
`a2b0c3=0d1=1#1`, or answers directly, `#1`; it may start over after `?`. Merging many terms at once makes a response
short but often wrong: the size of each step is a separate choice, and accuracy grows with every smaller step.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from harness.tasks.demonstrated import LETTERS, Demonstrated, Stage
from harness.tasks.task import Problem


@dataclass(frozen=True)
class Style:
    """How demonstrations merge terms: relative probabilities of the step sizes 1, 2, ...; empty for a direct answer."""

    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class ChainSum(Demonstrated[Style]):
    """A chain-sum task, with the warm-start stages that teach its notation to a new model."""

    stages: tuple[Stage[Style], ...]

    STEP = re.compile(r"#.*|\??[^=#?]*=.?|.[^=#?]*", re.DOTALL)
    ANSWER = re.compile(r"[^#]*#([^#])", re.DOTALL)  # a single character after the only `#`, which ends the response

    @property
    def longest_prompt(self) -> int:
        return 2 * self.terms[1] + 1

    def draw_with(self, generator: np.random.Generator, terms: tuple[int, int]) -> Problem:
        """A problem with uniform digits; the number of terms is uniform between `terms[0]` and `terms[1]`."""
        digits = generator.integers(0, self.modulus, size=generator.integers(terms[0], terms[1] + 1))
        prompt = "".join(f"{letter}{digit}" for letter, digit in zip(LETTERS, digits, strict=False))
        return Problem(prompt + ":", str(digits.sum() % self.modulus))

    def is_right(self, problem: Problem, response: str) -> bool:
        return self.extract_answer(response) == problem.answer

    def first_wrong_step(self, problem: Problem, response: str) -> tuple[int, int] | None:
        """The first step that skips or miscopies a term, has a wrong sum, is malformed, or gives a wrong answer."""
        terms = terms_of(problem.prompt)
        done, total = 0, 0
        for step in self.STEP.finditer(response):
            text = step[0]
            if text.startswith("?"):
                done, total, text = 0, 0, text[1:]
            if text.startswith("#"):
                return None if text == f"#{problem.answer}" else step.span()
            copied = terms_of(text.partition("=")[0])
            total = (total + sum(digit for _, digit in copied)) % self.modulus
            written = "".join(f"{letter}{digit}" for letter, digit in copied) + f"={total}"
            if not copied or copied != terms[done : done + len(copied)] or text != written:
                return step.span()
            done += len(copied)
        return None

    def demonstration(self, problem: Problem, style: Style, generator: np.random.Generator) -> str:
        """A response in the given style with the right answer."""
        if not style.sizes:
            return f"#{problem.answer}"
        steps, done, total, terms = [], 0, 0, terms_of(problem.prompt)
        while done < len(terms):
            size = 1 + int(generator.choice(len(style.sizes), p=np.array(style.sizes) / sum(style.sizes)))
            merged = terms[done : done + size]
            total = (total + sum(digit for _, digit in merged)) % self.modulus
            steps.append("".join(f"{letter}{digit}" for letter, digit in merged) + f"={total}")
            done += len(merged)
        generator.random()  # unused draw: keeps the random stream, and so the weights of RECIPE_VERSION 1, unchanged
        return f"{''.join(steps)}#{problem.answer}"


def terms_of(text: str) -> list[tuple[str, int]]:
    """The tagged digits at the start of the text, as (letter, digit)."""
    run = re.match(r"(?:[a-z]\d)*", text)
    return [(pair[0], int(pair[1])) for pair in re.findall(r"[a-z]\d", run[0] if run else "")]


SHIPPED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
GRADED = TypeAdapter(ChainSum).validate_python(SHIPPED)
