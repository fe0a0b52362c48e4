import pytest

from harness.tasks.math.answers import NoAnswer, extract, read_answer

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


@pytest.mark.parametrize(("response", "answer"), ANSWERS.items())
def test_answer_is_what_stands_in_the_only_box(response: str, answer: str) -> None:
    assert extract(response) == answer


@pytest.mark.parametrize(("answer", "response"), [(answer, line) for answer, lines in LINES.items() for line in lines])
def test_markup_is_no_part_of_an_answer_line(answer: str, response: str) -> None:
    assert read_answer(response, "answer_line") == (answer, None, None)


@pytest.mark.parametrize(("response", "why"), NO_ANSWERS.items())
def test_no_answer_has_its_reason(response: str, why: str) -> None:
    with pytest.raises(NoAnswer) as none:
        extract(response)
    assert str(none.value) == why


@pytest.mark.parametrize(
    ("response", "why"), HOSTILE.items(), ids=[f"{why}-{text[:8]}" for text, why in HOSTILE.items()]
)
def test_hostile_megabytes_are_read_once(response: str, why: str) -> None:
    with pytest.raises(NoAnswer) as none:
        extract(response)
    assert str(none.value) == why


def test_the_longest_answer_counts() -> None:
    assert extract(r"\boxed{" + 2000 * "1" + "}") == 2000 * "1"
