"""Answers that nobody would write, and answers written to be paid: a valid grade each, and no trap is right."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tasks.math.checker import MathChecker
from tests.faults.amount import fuzzed

BATCH = 20

PIECES = r"""
\frac \sqrt \boxed \fbox \text \mathrm \left( \right) \pi \infty \cup \pm \times \cdot \% \$ \{ \} \\ \sum_{k=1}^{9}
\begin{pmatrix} \end{pmatrix} \int \log \sin \circ \ldots \le \ne \approx \in \overline \binom \mod < > = + - * / ^ _ !
% & | $ $$ ( ) [ ] { } , ; : . ' # ~ <think> </think> or and not 0 1 2 3 5 9 12 0.5 1,000 1e5 x y e i n f(x) x=1
__import__('os')
"""

# What may join the right number with another one.
JOINTS = (
    r" or @ and @,@, @;@\text{ or }@\text{or}@\ \text{or}\ @\quad @\ @ @\lor @\vee @\cup @=@<@\le @\ne @\approx @\to @:"
    r"@\mid @\pm @\ldots @..@|@\text{, maybe }"
)
# A and B are the right number G and another one O, in either order.
TRAPS = [rf"\boxed{{A{joint}B}}" for joint in JOINTS.split("@")]
TRAPS += [
    r"\boxed{A} or \boxed{B}",
    r"\boxed{\boxed{A}\boxed{B}}",
    r"\boxed{\text{not }G}",
    r"\boxed{\sum_{k=1}^{G} 1}",
]
TRAPS += [r"<think>\boxed{G}</think> It is G.", r"<think>\boxed{G}</think> \boxed{O}", r"<think>\boxed{G}"]
TRAPS += [r"\boxed{G\%}", r"\fbox{G}", "It is $G$."]

texts = st.lists(st.sampled_from(PIECES.split()) | st.text(max_size=8), max_size=25).map("".join)
responses = (
    texts
    | texts.map(lambda text: f"\\boxed{{{text}}}")
    | st.binary(max_size=60).map(lambda data: data.decode("latin-1"))
)
golds = st.sampled_from(["5", r"\frac{1}{2}", "x^2+1", "(1,2]", r"\{1,2\}", "x<3", r"10\%", r"\text{east}"])


@pytest.fixture(scope="module")
def checker() -> Iterator[MathChecker]:
    with closing(MathChecker()) as checker:
        yield checker


@st.composite
def traps(draw: st.DrawFn) -> tuple[str, str]:
    """A gold number and a response that names it among others, as a percentage, in the reasoning or in no box."""
    gold, other = draw(st.lists(st.integers(1, 99), min_size=2, max_size=2, unique=True))
    first, second = draw(st.permutations([gold, other]))
    numbers = str.maketrans({"A": str(first), "B": str(second), "G": str(gold), "O": str(other)})
    return str(gold), draw(st.sampled_from(TRAPS)).translate(numbers)


def batches(pairs: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.lists(pairs, min_size=BATCH, max_size=BATCH)


@fuzzed(300 // BATCH, 100_000 // BATCH)
@given(batches(st.tuples(golds, responses)))
def test_every_response_has_a_grade_that_fits_it(checker: MathChecker, pairs: list[tuple[str, str]]) -> None:
    for grade, (_, response) in zip(checker.check(pairs), pairs, strict=True):
        if grade.outcome == "right":
            assert (grade.answer is not None, grade.why, "\\boxed" in response) == (True, None, True)
        else:
            assert grade.why or (grade.outcome == "wrong" and grade.answer)


@fuzzed(300 // BATCH, 20_000 // BATCH)
@given(batches(traps()))
def test_no_trap_is_right(checker: MathChecker, pairs: list[tuple[str, str]]) -> None:
    assert [pair for pair, grade in zip(pairs, checker.check(pairs), strict=True) if grade.outcome == "right"] == []


def test_the_same_answers_without_a_trap_are_right(checker: MathChecker) -> None:
    pairs: list[tuple[str, str]] = [("5", r"<think>\boxed{6}</think> \boxed{5}"), ("5", r"\boxed{5} or \boxed{5}")]
    assert {grade.outcome for grade in checker.check(pairs)} == {"right"}
