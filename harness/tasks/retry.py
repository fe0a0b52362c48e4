"""The built-in tasks in which length pays: choose operations that reach a target, and try again where they miss it.

A prompt `342=7:` asks to combine 3, 4 and 2, in this order and from 0, by `a` (add), `b` (subtract) and `c` (multiply)
modulo m, so that the result is 7. An attempt writes the value after each number, `a3=3c4=2b2=0`; `?` gives it up and
begins again, `#` hands it in. If an attempt with random operations hits with probability p, about 1 in 6, n of them
hit with 1 - (1 - p)^n: length buys accuracy for a model that can tell a hit from a miss.

`retry`: demonstrations give up only attempts that miss. `retry_unverified`: hits and misses alike, so that longer
responses are no better until training has found the difference. First responses are about equally long in both.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from harness.tasks.demonstrated import Demonstrated, Stage
from harness.tasks.task import Problem

OPERATIONS = "abc"
ENDED = re.compile(r"=(\d)([?#])")


@dataclass(frozen=True)
class Persistence:
    """How demonstrations hand in: at the latest after `attempts`; until then each is given up with a probability."""

    attempts: int
    after_miss: float = 0.0
    after_hit: float = 0.0


@dataclass(frozen=True)
class Retry(Demonstrated[Persistence]):
    """A retry task, with the warm-start stages that teach its notation to a new model."""

    stages: tuple[Stage[Persistence], ...]

    STEP = re.compile(r"[?#]|[^?#]{1,4}", re.DOTALL)
    ANSWER = re.compile(r"[^#]*([^#?])#", re.DOTALL)  # the character before the only `#`, which ends the response

    @property
    def longest_prompt(self) -> int:
        return self.terms[1] + 3

    def draw_with(self, generator: np.random.Generator, terms: tuple[int, int]) -> Problem:
        """A problem with uniform digits, whose target is what operations drawn at random give."""
        digits = "".join(map(str, generator.integers(0, self.modulus, size=generator.integers(terms[0], terms[1] + 1))))
        target = self.attempt(digits, generator)[-1]
        return Problem(f"{digits}={target}:", target)

    def attempt(self, digits: str, generator: np.random.Generator) -> str:
        """An attempt with operations drawn at random."""
        written, value = "", 0
        for digit in digits:
            operation = OPERATIONS[generator.integers(len(OPERATIONS))]
            value = self.apply(operation, value, int(digit))
            written += f"{operation}{digit}={value}"
        return written

    def apply(self, operation: str, value: int, number: int) -> int:
        results = {"a": value + number, "b": value - number, "c": value * number}
        return results[operation] % self.modulus

    def demonstration(self, problem: Problem, style: Persistence, generator: np.random.Generator) -> str:
        """Attempts with operations at random, given up as the style says. The one handed in may miss."""
        digits = problem.prompt.partition("=")[0]
        written = self.attempt(digits, generator)
        for _ in range(style.attempts - 1):
            is_hit = written.endswith(problem.answer)
            if generator.random() >= (style.after_hit if is_hit else style.after_miss):
                break
            written += "?" + self.attempt(digits, generator)
        return written + "#"

    def is_right(self, problem: Problem, response: str) -> bool:
        """Whether the attempt handed in uses each number once, in order, calculates right and ends in the target."""
        handed_in = response.rpartition("?")[2]
        return self.extract_answer(response) is not None and self.first_wrong_step(problem, handed_in) is None

    def first_wrong_step(self, problem: Problem, response: str) -> tuple[int, int] | None:
        """The first step that miscopies a number, miscalculates, is malformed, gives up a hit or hands in a miss."""
        digits, is_over = problem.prompt.partition("=")[0], False
        done, value = 0, 0
        for step in self.STEP.finditer(response):
            text, is_hit = step[0], done == len(digits) and str(value) == problem.answer
            if is_over or (text == "?" and is_hit) or (text == "#" and not is_hit):
                return step.span()
            if text == "?":
                done, value = 0, 0
            elif text == "#":
                is_over = True
            elif done == len(digits) or text[0] not in OPERATIONS:
                return step.span()
            else:
                value = self.apply(text[0], value, int(digits[done]))
                if text != f"{text[0]}{digits[done]}={value}":
                    return step.span()
                done += 1
        return None

    def behaviour(self, responses: Sequence[tuple[Problem, str]]) -> dict[str, float | None]:
        """P(retry | miss) and P(retry | hit) of the attempts that ended in `?` or `#`, a hit being as it is written."""
        after: dict[bool, list[bool]] = {False: [], True: []}
        for problem, response in responses:
            for value, end in ENDED.findall(response):
                after[value == problem.answer].append(end == "?")
        shares = {hit: sum(given_up) / len(given_up) if given_up else None for hit, given_up in after.items()}
        return {"retry_after_miss": shares[False], "retry_after_hit": shares[True]}


SHIPPED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["tasks"]
RETRIES = {task.name: task for task in TypeAdapter(list[Retry]).validate_python(SHIPPED)}
