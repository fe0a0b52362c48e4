import pytest

from harness.tasks.chain_sum import GRADED
from harness.tasks.task import Problem

PROBLEM = Problem("a2b4c3:", "4")  # 2 + 4 + 3 = 9 = 4 mod 5

ANSWERS = {
    "#4": "4",
    "a2b4=1c3=4#4": "4",
    "a2b4=1?a2=2#0": "0",
    "##": None,
    "": None,
    "4": None,
    "#": None,
    "#4#4": None,
    "#3?#4": None,
    "#4a": None,
    "#44": None,
    "#4\n": None,
}

RIGHT = [
    "#4",
    "a2b4=1c3=4#4",
    "a2=2b4=1c3=4#4",
    "a2b4c3=4#4",
    "a2=2b4=1?a2=2b4=1c3=4#4",  # begun again
    "a2b4=1#4",  # stops early; all that it says is right
    "a2b4=1",  # cut at the limit
    "",
]

# response, its first wrong step
WRONG = [
    ("a2b4=2c3=0#0", "a2b4=2"),  # 2 + 4 = 1 mod 5
    ("a2=2b4=1c3=3#3", "c3=3"),
    ("a2=2b4=1c3=3#4", "c3=3"),  # right by two errors
    ("a2=2c3=0#0", "c3=0"),  # skips b4
    ("b4=4c3=2#2", "b4=4"),
    ("a2b3=0c3=3#3", "a2b3=0"),  # b4 miscopied as b3
    ("a2=2b4=1b4=0#0", "b4=0"),  # b4 twice
    ("#3", "#3"),
    ("a2b4=1c3=4#1", "#1"),
    ("#4a", "#4a"),
    ("a2b4=1=1#4", "=1"),
    ("a2b4#4", "a2b4"),  # no sum
    ("a2b4=", "a2b4="),
    ("a2bb=1#4", "a2bb=1"),
    ("a2b4=11#4", "1"),
    ("a2b4=1??a2=2#4", "?"),
    ("a2b4=2?a2=2b4=1c3=4#4", "a2b4=2"),  # a slip, mended later
    ("a2b4=1?b4=4c3=2#2", "?b4=4"),  # begun again in the middle
    ("a2b4c3=4d0=4#4", "d0=4"),  # a term that the prompt has not
]


@pytest.mark.parametrize(("response", "answer"), ANSWERS.items())
def test_answer_is_what_stands_after_the_only_hash(response: str, answer: str | None) -> None:
    assert GRADED.extract_answer(response) == answer


@pytest.mark.parametrize("response", RIGHT)
def test_no_step_is_wrong(response: str) -> None:
    assert GRADED.first_wrong_step(PROBLEM, response) is None


@pytest.mark.parametrize(("response", "step"), WRONG)
def test_first_wrong_step_is_found(response: str, step: str) -> None:
    span = GRADED.first_wrong_step(PROBLEM, response)
    assert span is not None
    assert response[slice(*span)] == step


def test_spans_are_places_in_the_response() -> None:
    assert GRADED.first_wrong_step(PROBLEM, "a2b4=11#4") == (6, 7)
    assert GRADED.first_wrong_step(PROBLEM, "a2=2b4=1b4=0#0") == (8, 12)
    assert GRADED.first_wrong_step(PROBLEM, "a2b4=1??a2=2#4") == (6, 7)
