"""Where an answer is read: each format, a regular expression, and the lenient reading beside it."""

from contextlib import closing

import pytest

from harness.config.resolve import resolve
from harness.errors import UsageError
from harness.tasks.math.checker import KNOWN, MathChecker, self_test
from harness.tasks.math.answers import EXTRACTORS, read_leniently


@pytest.mark.parametrize("answer_format", EXTRACTORS)
def test_known_answers_of_each_format(answer_format: str) -> None:
    with closing(MathChecker(answer_format=answer_format)) as checker:
        self_test(checker.check, KNOWN[answer_format])


@pytest.mark.parametrize("answer", ["1,234", "-170", "18"])
def test_gsm8ks_solutions_are_right_by_its_own_form_and_by_their_last_number(answer: str) -> None:
    solution = f"The crates bring 9*13 = $<<9*13=117>>117.\nSo that is ${answer} left.\n#### {answer}"
    for answer_format in ("hash", "last_number"):
        with closing(MathChecker(answer_format=answer_format)) as checker:
            assert checker.check([(answer, solution)])[0].outcome == "right"


@pytest.mark.parametrize(
    ("response", "outcome"),
    [("The answer is 7.", "right"), ("The answer is 6. The answer is 7", "right"), ("It is 7", "wrong")],
)
def test_a_regular_expression_reads_its_first_group_in_the_last_match(response: str, outcome: str) -> None:
    assert MathChecker(answer_format=r"The answer is (-?\d+)").check([("7", response)])[0].outcome == outcome


@pytest.mark.parametrize("answer_format", ["answer_lines", "(", r"\d+", ""])
def test_what_is_no_format_is_refused(answer_format: str) -> None:
    with pytest.raises(UsageError, match="--answer_format: expected answer_line, boxed, hash, last_number or a"):
        resolve({"answer_format": answer_format})


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{5} and 6", "5"),
        ("Answer: 5\nThat took 6 minutes", "5"),
        ("#### 5", "5"),
        ("5 apples, 6 pears", "6"),
        ("$1,250.", "1250"),
        ("from 3-4", "4"),
        ("about -.5", "-.5"),
        ("v1.2.3", "1.2"),
        ("1,2,3", "3"),
        ("May 5,2020", "2020"),
        ("x = \u22125", "-5"),
        ("#### Step 2\n2 + 3 = 5", "5"),
        ("##### Answer: 5", "5"),
        ("\u0663", None),
        ("none", None),
    ],
)
def test_the_lenient_reading(response: str, answer: str | None) -> None:
    assert read_leniently(response) == answer


def test_a_gain_of_format_alone_shows_as_that() -> None:
    """A response without the format is wrong but right leniently; with a valid answer both readings agree."""
    checker = MathChecker(answer_format="boxed")
    graded = checker.check([("5", "It is 5."), ("5", r"\boxed{5}, not 6"), ("5", r"\boxed{6}, or 5"), ("5", "no")])
    assert [(grade.outcome, grade.is_right_leniently) for grade in graded] == [
        ("wrong", True),
        ("right", True),
        ("wrong", False),
        ("wrong", False),
    ]
