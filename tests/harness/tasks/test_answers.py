"""Where an answer is read: each format, a regular expression, and the lenient reading beside it."""

from contextlib import closing

import pytest

from harness.config.resolve import resolve
from harness.errors import UsageError
from harness.tasks.math.answers import EXTRACTORS, NoAnswer, extract, read_answer, read_leniently
from harness.tasks.math.checker import MathChecker

ANSWERS = {
    r"\boxed{5}": "5",
    r"So $\boxed{\frac{1}{2}}$.": r"\frac{1}{2}",
    r"\boxed {5}": "5",
    r"\boxed{ 5. }": "5",
    r"\boxed{$5$}": "5",
    r"\boxed{**5**}": "5",
    r"\boxed{`5`}": "5",
    r"\boxed{\(5\)}": "5",
    r"\boxed{1,2,\dots}": r"1,2,\dots",
    r"\boxed{\{1, 2\}}": r"\{1, 2\}",
    r"\boxed{\boxed{5}}": "5",
    r"\boxed{5} that is \boxed{ 5 }": "5",
    r"<think>\boxed{6} or \boxed{7}</think>\boxed{5}": "5",
    r"a</think>\boxed{6}</think>\boxed{5}": "5",
    r"} {{ \boxed{5} {": "5",
    r"\fbox{6} \boxed{5}": "5",
    r"\boxedness \boxed{5}": "5",
}

NO_ANSWERS = {
    "": "no answer",
    "5": "no answer",
    r"\boxed{}": "no answer",
    r"\boxed{$ $}": "no answer",
    r"\fbox{5}": "no answer",
    r"<think>\boxed{5}": "no answer",
    r"<think>\boxed{5}</think>": "no answer",
    r"<think></think>\boxed{5}<think>": "no answer",
    r"\\boxed{5}": "no answer",
    r"\boxed 5": "no braces",
    r"\boxed{5} \boxed": "no braces",
    r"\boxed{5": "unclosed box",
    r"\boxed{5\}": "unclosed box",
    r"\boxed{5} \boxed{6}": "several answers",
    r"\boxed{5} \boxed{6} \boxed{5}": "several answers",
    r"\boxed{5} \boxed{\boxed{6}}": "several answers",
    r"\boxed{x=\boxed{5}}": "nested boxes",
    r"\boxed{\boxed{5} or \boxed{6}}": "nested boxes",
    r"\boxed{" + 2001 * "1" + "}": "too long",
}

# what an answer line's answer is: lines
LINES: dict[str, tuple[str, ...]] = {
    "5": tuple(
        r"""**Answer:** 5 @ **Answer:**5 @ Answer: **5** @ **Answer: 5** @ **Answer**: 5 @ *Answer: 5* @ _Answer:_ 5
        @ **Final Answer: $5$.** @ Answer: ***5*** @ Answer: __5__ @ Answer: `5` @ Answer: "5" @ Answer: \[5\]
        @ Answer: $$5$$ @ Answer: \(5\) @ Answer: **\boxed{5}** @ Answer: 5</s> @ Answer: 5<end_of_turn>
        @ Answer: 5<eos>""".replace("\n        @ ", " @ ").split(" @ ")
    ),
    "6": ("Answer: 5<|im_end|>Answer: 6", "Answer: 5\n**Answer:** 6"),
    "**5** or **6**": ("Answer: **5** or **6**",),
    "$5$ or $6$": ("Answer: $5$ or $6$",),
    r"\[5\] or \[6\]": (r"Answer: \[5\] or \[6\]",),
    "$$5$$ or $$6$$": ("Answer: $$5$$ or $$6$$",),
    "x^*": ("Answer: x^*",),
}
LINES["5"] += ("**Answer:**\n\n5", "Answer:\n\\[\n5\n\\]", "Answer: 5<|im_end|>\n<|im_start|>user", "Answer\uff1a5")
LINES["5"] += ("Answer: 5<\uff5cend\u2581of\u2581sentence\uff5c>",)

HOSTILE = {
    r"\boxed{" + 1_000_000 * "{": "too long",
    200_000 * r"\boxed{": "too long",
    1_000_000 * "{": "no answer",
    200_000 * "<think>": "no answer",
    r"\boxed" + 1_000_000 * " ": "no braces",
    r"\boxed{" + 1_000_000 * "\\" + "}": "too long",
    150_000 * r"\boxed{5}" + r"\boxed{6}": "several answers",
    200 * (r"\boxed{" + 220 * r"\boxed{" + "5" + 221 * "}") + r"\boxed{6}": "several answers",
}


@pytest.mark.parametrize(("response", "answer"), [*ANSWERS.items(), (r"\boxed{" + 2000 * "1" + "}", 2000 * "1")])
def test_answer_is_what_stands_in_the_only_box(response: str, answer: str) -> None:
    assert extract(response) == answer


@pytest.mark.parametrize(("answer", "response"), [(answer, line) for answer, lines in LINES.items() for line in lines])
def test_markup_is_no_part_of_an_answer_line(answer: str, response: str) -> None:
    assert read_answer(response, "answer_line") == (answer, None, None)


@pytest.mark.parametrize(
    ("response", "why"),
    [*NO_ANSWERS.items(), *HOSTILE.items()],
    ids=lambda text: text[:40],
)
def test_no_answer_has_its_reason_and_hostile_megabytes_are_read_once(response: str, why: str) -> None:
    with pytest.raises(NoAnswer, match=f"^{why}$"):
        extract(response)


@pytest.mark.parametrize("answer_format", EXTRACTORS)
def test_known_answers_of_each_format(answer_format: str) -> None:
    with closing(MathChecker(answer_format=answer_format)) as checker:
        checker.self_test()


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
