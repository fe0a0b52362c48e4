r"""Grades mathematical answers: first by comparing text, then with math-verify in worker processes.

right      the same text, or equal by verify(gold, answer) and of the same form (form.py)
wrong      no valid answer, a different form, or not equal
unchecked  unknown: the comparison hung, crashed, needed too much memory, or was not attempted
"""

import importlib.util
import re
import tomllib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.tasks.math.answers import MAX_ANSWER_CHARACTERS, read_answer, tidy
from harness.tasks.math.form import excess, is_same, same_terms
from harness.tasks.task import Grade, Outcome
from harness.tasks.workers import Workers

Verdict = tuple[Outcome, str | None]

# by format: gold answer, response, outcome
KNOWN: dict[str, list[tuple[str, str, Outcome]]] = tomllib.loads(
    Path(__file__).with_name("known_answers.toml").read_text(encoding="utf-8")
)
EQUALITY = Path(__file__).with_name("equality.py")  # what the workers run
CACHED = 100_000
INTEGER = re.compile(r"-?\d{1,18}", re.ASCII)
# A tower of exponents, an exponent of seven digits, the factorial of a five-digit number or of a factorial.
TOO_LARGE = re.compile(
    r"(?:\^[\s{(]*[^\s{}()^]+[\s{(]*){2}\^|\^[\s{(]*-?\d{7}|\d{5}[\s})]*!|![\s})]*!|\\(?:uparrow|Uparrow)"
)


class MathChecker:
    """Grades responses against gold answers, `busy` at a time. Raises UsageError if math-verify is not installed."""

    def __init__(self, busy: int = 2, answer_format: str = "boxed") -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise UsageError(
                "checking mathematical answers: expected the package math-verify, found none: "
                "run python -m pip install math-verify==0.9.0"
            )
        self.busy = busy
        self.answer_format = answer_format
        self.known: dict[tuple[str, str], Verdict] = {}

    @cached_property
    def workers(self) -> Workers:
        """The pool of workers, which is started on first use."""
        return Workers(EQUALITY, self.busy)

    def close(self) -> None:
        """Stop the workers, if they were started."""
        if "workers" in vars(self):
            self.workers.close()
            del self.workers

    def check(self, responses: Iterable[tuple[str, str]]) -> list[Grade]:
        """The grade of each (gold answer, response) pair, in order, by the strict and by the lenient reading."""
        read = [(tidy(gold), *read_answer(response, self.answer_format)) for gold, response in responses]
        pairs = [(gold, strict or lenient or "") for gold, strict, lenient, _ in read]
        verdicts = self.verdicts(pair for pair in pairs if pair[1])
        grades = []
        for pair, (_, strict, _, none) in zip(pairs, read, strict=True):
            outcome, why = verdicts.get(pair, ("wrong", None))
            grades.append(Grade(outcome, strict, why) if strict else Grade("wrong", None, none, outcome == "right"))
        return grades

    def verdicts(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Verdict]:
        """The verdict on each (gold, answer) pair, among those known so far."""
        if len(self.known) > CACHED:
            self.known.clear()
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.known]
        self.known |= {pair: verdict for pair in new if (verdict := by_text(*pair)) is not None}
        left = [pair for pair in new if pair not in self.known]
        replies = self.workers.replies([same_terms(*pair) for pair in left]) if left else []
        self.known |= {pair: (outcome, why) for pair, (outcome, why) in zip(left, replies, strict=True)}
        return self.known

    def self_test(self) -> None:
        """Raise HarnessError if a known answer is not graded as expected."""
        known = KNOWN.get(self.answer_format, [])
        grades = self.check([(gold, response) for gold, response, _ in known])
        for (gold, response, outcome), grade in zip(known, grades, strict=True):
            if grade.outcome != outcome:
                because = f" because of: {grade.why}" if grade.why else ""
                raise HarnessError(
                    f"self-test of the checker: expected {response!r} to be {outcome} for the gold answer {gold!r}, "
                    f"got {grade.outcome}{because}"
                )


def by_text(gold: str, answer: str) -> Verdict | None:
    """The verdict if it can be decided from the text alone, else None."""
    if answer == gold:
        return "right", None
    if INTEGER.fullmatch(gold) and INTEGER.fullmatch(answer):
        return ("right" if int(gold) == int(answer) else "wrong"), None
    if len(gold) > MAX_ANSWER_CHARACTERS:
        return "unchecked", "gold too long"
    gold, answer = same_terms(gold, answer)
    if is_same(gold, answer):
        return "right", None
    if (mark := excess(gold, answer)) is not None:
        return "wrong", mark
    return ("unchecked", "too large") if TOO_LARGE.search(answer) else None
