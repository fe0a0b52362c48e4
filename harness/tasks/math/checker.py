r"""Grades of mathematical answers: the text first, then math-verify in processes that can be killed.

right      the same text, or equal by verify(gold, answer) and of the same form (math_forms.py)
wrong      no answer that counts, another form, or unequal
unchecked  nobody knows: the comparison hung, crashed, took too much memory, or was not begun
"""

import importlib.util
import re
from collections.abc import Iterable
from functools import partial
from typing import Self

from harness.errors import UsageError
from harness.tasks.grades import Grade
from harness.tasks.math.answers import EXTRACTORS, MAX_ANSWER_CHARACTERS, SPECIAL, AnswerFormat, NoAnswer, tidy
from harness.tasks.math.forms import excess, same_terms, same_text
from harness.tasks.math.words import caseless, unspaced
from harness.tasks.math.workers import CPU_S, MathWorkers, Verdict

CACHED = 100_000

# Three exponents on one another, an exponent of seven digits, a factorial of five digits or of a factorial.
TOO_LARGE = re.compile(
    r"(?:\^[\s{(]*[^\s{}()^]+[\s{(]*){2}\^|\^[\s{(]*-?\d{7}|\d{5}[\s})]*!|![\s})]*!|\\(?:uparrow|Uparrow)"
)


class MathChecker:
    """Grades responses against gold answers; `workers` and `limit_s` as in MathWorkers."""

    def __init__(self, workers: int = 2, limit_s: float = CPU_S, answer_format: AnswerFormat = "boxed") -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise UsageError(
                "checking mathematical answers: expected the package math-verify, found none: "
                "run python -m pip install math-verify==0.9.0"
            )
        self.start = partial(MathWorkers, workers, limit_s)
        self.started: MathWorkers | None = None
        self.answer_format: AnswerFormat = answer_format
        self.known: dict[tuple[str, str], Verdict] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def workers(self) -> MathWorkers:
        """Started when they are first needed."""
        self.started = self.started or self.start()
        return self.started

    def close(self) -> None:
        """Ends the workers, if there are any."""
        if self.started:
            self.started.close()
            self.started = None

    def check(self, pairs: Iterable[tuple[str, str]]) -> list[Grade]:
        """The grade of each (gold answer, response), in this order."""
        read = [(tidy(gold), *read_answer(response, self.answer_format)) for gold, response in pairs]
        self.learn((gold, answer) for gold, answer, _ in read if answer is not None)
        return [
            Grade("wrong", None, why) if answer is None else grade(self.known[gold, answer], answer)
            for gold, answer, why in read
        ]

    def learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Makes the verdict of each (gold, answer) known."""
        if len(self.known) > CACHED:
            self.known.clear()
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.known]
        self.known |= {pair: verdict for pair in new if (verdict := by_text(*pair)) is not None}
        open_pairs = [pair for pair in new if pair not in self.known]
        if open_pairs:
            verdicts = self.workers.compare([same_terms(*pair) for pair in open_pairs])
            self.known |= dict(zip(open_pairs, verdicts, strict=True))


def read_answer(response: str, answer_format: AnswerFormat) -> tuple[str | None, str | None]:
    """The answer, or why there is none; a token of a chat's own ends the line."""
    try:
        return EXTRACTORS[answer_format](SPECIAL.sub("\n", response)), None
    except NoAnswer as none:
        return None, str(none)


def by_text(gold: str, answer: str) -> Verdict | None:
    """The verdict, where the text alone decides."""
    if answer == gold:
        return "right", None
    if len(gold) > MAX_ANSWER_CHARACTERS:
        return "unchecked", "gold too long"
    if same_text(gold, answer):
        return "right", None
    gold, answer = same_terms(gold, answer)
    if unspaced(caseless(answer)) == unspaced(caseless(gold)):
        return "right", None
    if (mark := excess(gold, answer)) is not None:
        return "wrong", mark
    return ("unchecked", "too large") if TOO_LARGE.search(answer) else None


def grade(verdict: Verdict, answer: str) -> Grade:
    """The verdict with the answer that it is about."""
    outcome, why = verdict
    return Grade(outcome, answer, why)
