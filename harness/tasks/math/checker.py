r"""Grades mathematical answers: first by comparing text, then with math-verify in worker processes.

right      the same text, or equal by verify(gold, answer) and of the same form (answers.py)
wrong      no valid answer, a different form, or not equal
unchecked  unknown: the comparison hung, crashed, needed too much memory, or was not attempted
"""

import importlib.util
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from harness.errors import HarnessError, UsageError
from harness.tasks.math.answers import MAX_ANSWER_CHARACTERS, SPECIAL, NoAnswer, excess, same_terms, same_text, tidy
from harness.tasks.math.formats import extractor_of, read_leniently
from harness.tasks.math.words import caseless, unspaced
from harness.tasks.task import Grade, Outcome
from harness.tasks.workers import Workers

Verdict = tuple[Outcome, str | None]

ANSWERS = Path(__file__).with_name("known_answers.toml")
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

    def check(self, pairs: Iterable[tuple[str, str]]) -> list[Grade]:
        """The grade of each (gold answer, response) pair, in order, by the strict and by the lenient reading."""
        read = [(tidy(gold), *read_answer(response, self.answer_format)) for gold, response in pairs]
        self.learn((gold, one) for gold, *answers, _ in read for one in answers if one is not None)
        return [self.grade(*one) for one in read]

    def grade(self, gold: str, answer: str | None, lenient: str | None, why: str | None) -> Grade:
        """The grade of a response as `read_answer` reads it; `learn` must have seen its answer."""
        if answer is None:
            return Grade("wrong", None, why, lenient is not None and self.known[gold, lenient][0] == "right")
        outcome, because = self.known[gold, answer]
        return Grade(outcome, answer, because)

    def learn(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Add the verdict on each (gold, answer) pair to the cache `known`."""
        if len(self.known) > CACHED:
            self.known.clear()
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.known]
        self.known |= {pair: verdict for pair in new if (verdict := by_text(*pair)) is not None}
        open_pairs = [pair for pair in new if pair not in self.known]
        if open_pairs:
            verdicts = self.workers.replies([same_terms(*pair) for pair in open_pairs])
            self.known |= {pair: (outcome, why) for pair, (outcome, why) in zip(open_pairs, verdicts, strict=True)}


def read_answer(response: str, answer_format: str) -> tuple[str | None, str | None, str | None]:
    """(strict answer, None, None), or (None, lenient answer if any, reason) if the format has no valid answer.

    Special tokens of chats count as line breaks.
    """
    text = SPECIAL.sub("\n", response)
    try:
        return extractor_of(answer_format)(text), None, None
    except NoAnswer as none:
        return None, read_leniently(text), str(none)


def by_text(gold: str, answer: str) -> Verdict | None:
    """The verdict if it can be decided from the text alone, else None."""
    if answer == gold:
        return "right", None
    if INTEGER.fullmatch(gold) and INTEGER.fullmatch(answer):
        return ("right" if int(gold) == int(answer) else "wrong"), None
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


Known = Sequence[tuple[str, str, Outcome]]  # gold answer, response, outcome
KNOWN: dict[str, Known] = tomllib.loads(ANSWERS.read_text(encoding="utf-8"))


def self_test(check: Callable[[Sequence[tuple[str, str]]], list[Grade]], known: Known = KNOWN["boxed"]) -> None:
    """Raise HarnessError if a known answer is not graded as expected."""
    grades = check([(gold, response) for gold, response, _ in known])
    for (gold, response, outcome), grade in zip(known, grades, strict=True):
        if grade.outcome != outcome:
            because = f" because of: {grade.why}" if grade.why else ""
            raise HarnessError(
                f"self-test of the checker: expected {response!r} to be {outcome} for the gold answer {gold!r}, "
                f"got {grade.outcome}{because}"
            )
