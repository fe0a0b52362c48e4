r"""Known answers, graded before training: a checker that fails in silence gives every response the same reward."""

from collections.abc import Callable, Sequence

from harness.errors import HarnessError
from harness.tasks.grades import Grade, Outcome
from harness.tasks.math.answers import AnswerFormat

Pair = tuple[str, str, Outcome]  # gold answer, answer, outcome

BOXED: tuple[Pair, ...] = (
    ("5", r"\boxed{5}", "right"),
    ("5", r"<think>\boxed{6}, no: \boxed{7}</think> So $\boxed{5}$.", "right"),
    (r"\frac{1}{2}", r"\boxed{0.5}", "right"),
    (r"\frac{2\sqrt{3}}{3}", r"\boxed{\frac{2}{\sqrt{3}}}", "right"),
    ("x^2+2x+1", r"\boxed{(x+1)^2}", "right"),
    ("(1,2]", r"\boxed{(1, \frac{4}{2}]}", "right"),
    ("1,2", r"\boxed{\{2, 1\}}", "right"),
    ("x<3", r"\boxed{3>x}", "right"),
    ("12345", r"\boxed{12,345}", "right"),
    ("0.1", r"\boxed{10\%}", "right"),
    ("1", r"\boxed{x = 1}", "right"),
    ("5", r"\boxed{5\text{ cm}}", "right"),
    ("5000000", r"\boxed{5\text{ million}}", "right"),
    ("-2, 2", r"\boxed{2\text{ and }-2}", "right"),
    ("xy", r"\boxed{yx}", "right"),
    ("5", r"\boxed{5\text{ million}}", "wrong"),
    ("5", r"\boxed{5\text{ below zero}}", "wrong"),
    (r"\text{east}", r"\boxed{\text{seat}}", "wrong"),
    ("1,2", r"\boxed{1,2,2}", "wrong"),
    ("5", r"\boxed{6}", "wrong"),
    ("5", "The answer is 5.", "wrong"),
    ("5", r"<think>\boxed{5}</think> I am not sure.", "wrong"),
    ("5", r"<think>\boxed{5}", "wrong"),
    ("5", r"\boxed{5} or \boxed{6}", "wrong"),
    ("5", r"\boxed{5 \text{ or } 6}", "wrong"),
    ("5", r"\boxed{5, 6}", "wrong"),
    ("5", r"\boxed{6 = 5}", "wrong"),
    ("11", r"\boxed{5 6}", "wrong"),
    ("10", r"\boxed{10\%}", "wrong"),
    ("1/3", r"\boxed{.3333}", "wrong"),
    ("(1,2)", r"\boxed{(2,1)}", "wrong"),
    ("(1,2)", r"\boxed{1,2}", "wrong"),
    ("1275", r"\boxed{\sum_{i=1}^{50} i}", "wrong"),
    ("x=1", r"\boxed{y=1}", "wrong"),
    ("5", rf"\boxed{{{500 * '-'}5}}", "unchecked"),  # too deep for the parser
    ("5", r"\boxed{9^{9^{9^{9}}}}", "unchecked"),
)


ANSWER_LINE: tuple[Pair, ...] = (
    ("5", "So it is five.\nAnswer: 5", "right"),
    ("5", "Answer: 6, no.\nAnswer: $5$.", "right"),
    ("5", r"**answer:** none yet" "\n" r"Answer: \boxed{5}", "right"),
    ("5", "**Answer:** `5`</s>", "right"),
    (r"\frac{1}{2}", "Answer: 0.5", "right"),
    ("12345", "Answer: 12,345", "right"),
    ("5", "The answer is 5.", "wrong"),
    ("5", "Answer: 6", "wrong"),
    ("5", "Answer: 5 or 6", "wrong"),
    ("5", "Answer: 5\nAnswer: 6", "wrong"),
    ("5", r"\boxed{5}", "wrong"),
    ("5", "Answer:\n\n5", "right"),
    ("5", f"Answer: 5\n{'It is so. ' * 31}", "wrong"),  # too far from the end
    ("5", "Answer: 9^{9^{9^{9}}}", "unchecked"),
)
PAIRS: dict[AnswerFormat, tuple[Pair, ...]] = {"boxed": BOXED, "answer_line": ANSWER_LINE}


def self_test(check: Callable[[Sequence[tuple[str, str]]], list[Grade]], pairs: Sequence[Pair] = BOXED) -> None:
    """Raises HarnessError on the first pair that comes out otherwise than is known."""
    grades = check([(gold, response) for gold, response, _ in pairs])
    for (gold, response, outcome), grade in zip(pairs, grades, strict=True):
        if grade.outcome != outcome:
            because = f" because of: {grade.why}" if grade.why else ""
            raise HarnessError(
                f"self-test of the checker: expected {response!r} to be {outcome} where {gold!r} is right, "
                f"got {grade.outcome}{because}"
            )
