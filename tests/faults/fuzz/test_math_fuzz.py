"""Answers that nobody would write, and answers written to be paid: a valid grade each, and no trap is right."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.tasks.math.checker import MathChecker
from harness.tasks.task import Grade
from tests.faults.amount import amount

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

texts = st.lists(st.sampled_from(PIECES.split()) | st.text(max_size=8), max_size=25).map("".join)
responses = (
    texts
    | texts.map(lambda text: f"\\boxed{{{text}}}")
    | st.binary(max_size=60).map(lambda data: data.decode("latin-1"))
)
golds = st.sampled_from(["5", r"\frac{1}{2}", "x^2+1", "(1,2]", r"\{1,2\}", "x<3", r"10\%", r"\text{east}"])
numbers = st.integers(0, 99)


@pytest.fixture(scope="module")
def checker() -> Iterator[MathChecker]:
    with closing(MathChecker()) as checker:
        yield checker


def fuzz(short: int, thorough: int) -> settings:
    """So many answers, in batches."""
    cases = amount(short, thorough) // BATCH
    return settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@fuzz(300, 100_000)
@given(st.lists(st.tuples(golds, responses), min_size=BATCH, max_size=BATCH))
def test_every_response_has_a_valid_grade(checker: MathChecker, pairs: list[tuple[str, str]]) -> None:
    grades = checker.check(pairs)
    assert len(grades) == len(pairs)
    assert all(is_valid(grade, response) for grade, (_, response) in zip(grades, pairs, strict=True))


def is_valid(grade: Grade, response: str) -> bool:
    """Whether what the grade says of itself and of the response fits together."""
    if grade.outcome == "right":
        return grade.answer is not None and grade.why is None and "\\boxed" in response
    return grade.outcome in ("wrong", "unchecked") and bool(grade.why or (grade.outcome == "wrong" and grade.answer))


@st.composite
def traps(draw: st.DrawFn) -> tuple[str, str]:
    """A gold number and a response that names it among others, as a percentage, in the reasoning or in no box."""
    gold, other = draw(st.lists(numbers, min_size=2, max_size=2, unique=True))
    first, second = draw(st.permutations([gold, other]))
    return str(gold), draw(
        st.sampled_from(
            [rf"\boxed{{{first}{joint}{second}}}" for joint in JOINTS.split("@")]
            + [
                rf"\boxed{{{first}}} or \boxed{{{second}}}",
                rf"\boxed{{\boxed{{{first}}}\boxed{{{second}}}}}",
                rf"<think>\boxed{{{gold}}}</think> It is {gold}.",
                rf"<think>\boxed{{{gold}}}</think> \boxed{{{other}}}",
                rf"<think>\boxed{{{gold}}}",
                rf"\boxed{{{gold or 1}\%}}",
                rf"\boxed{{\text{{not }}{gold}}}",
                rf"\boxed{{\sum_{{k=1}}^{{{gold}}} 1}}",
                rf"\fbox{{{gold}}}",
                f"The answer is ${gold}$.",
            ]
        )
    )


@fuzz(300, 20_000)
@given(st.lists(traps(), min_size=BATCH, max_size=BATCH))
def test_no_trap_is_right(checker: MathChecker, pairs: list[tuple[str, str]]) -> None:
    caught = [pair for pair, grade in zip(pairs, checker.check(pairs), strict=True) if grade.outcome == "right"]
    assert not caught
