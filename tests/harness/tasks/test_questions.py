import math
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import UsageError
from harness.tasks.math.questions import (
    BOXED_AFTER,
    DAPO_AFTER,
    DAPO_BEFORE,
    Question,
    Questions,
    question_of,
    read_questions,
)
from tests.harness.tasks.math_material import dapo_rows, write_jsonl

Row = dict[str, Any]
ASKED = {"role": "user", "content": "What?"}
TRUTH = {"reward_model": {"ground_truth": "5"}}


def chat(*turns: tuple[str, str], truth: object = "5") -> Row:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"prompt": messages, "reward_model": {"ground_truth": truth, "style": "rule"}}


def user(content: str, truth: object = "5") -> Row:
    return chat(("user", content), truth=truth)


def plain(problem: object, answer: object = "5") -> Row:
    return {"problem": problem, "answer": answer}


def read(folder: Path, *rows: Row) -> Questions:
    """What the rows hold, as lines of JSON."""
    return read_questions(write_jsonl(folder / "data.jsonl", rows), "train_data")


def texts(found: Questions) -> list[str]:
    return [question.text for question in found.distinct]


def answers(found: Questions) -> list[str]:
    return [question.answer for question in found.distinct]


SUM, WHAT = Question("What is 2+3?", "5"), Question("What?", "5")
PARTS = [{"type": "text", "text": text} for text in ("Wh", "at?")]
SCHEMAS: list[tuple[Row, Question]] = [
    # DAPO-Math-17k, and AIME 2024 as DAPO published it: their own words around the problem are taken off
    (user(f"{DAPO_BEFORE}What is 2+3?{DAPO_AFTER}"), SUM),
    (user(f" {DAPO_BEFORE}What is 2+3?{DAPO_AFTER}\r\n"), SUM),
    (user(f"What is 2+3?{BOXED_AFTER}"), SUM),
    # words that are only half theirs are the problem's
    (user(f"{DAPO_BEFORE}What?"), Question(f"{DAPO_BEFORE}What?".strip(), "5")),
    (chat(("system", "Be brief."), ("user", " What? ")), Question("What?", "5", (("system", "Be brief."),))),
    (user("What?", truth=5), WHAT),
    # MATH-500, AIME 2025, GSM8K
    (plain("What is 2+3?") | {"solution": "It is 5.", "subject": "Algebra", "level": 1}, SUM),
    (plain("What?", 5) | {"id": "0"}, WHAT),
    ({"question": "What?", "answer": "2+3 = <<2+3=5>>5\n#### 5"}, WHAT),
    ({"question": "What?", "answer": "#### 4\n#### 5"}, WHAT),
    # contents in parts, as exports have them
    ({"prompt": [{"role": "user", "content": PARTS}], "reward_model": {"ground_truth": ["5"]}}, WHAT),
    ({"prompt": [{"role": "system", "content": None}, ASKED], **TRUTH}, WHAT),
    ({"prompt": "[asy]draw(A);[/asy] What?", "answer": "5"}, Question("[asy]draw(A);[/asy] What?", "5")),
    ({"prompt": [ASKED], **plain("What?")}, WHAT),
]


@pytest.mark.parametrize(("row", "question"), SCHEMAS)
def test_rows_of_the_published_schemas(row: Row, question: Question) -> None:
    assert question_of(row) == question


DEEP = reduce(lambda inner, _: [inner], range(5000), 3.0)
AS_WRITTEN: list[tuple[object, str]] = [
    *((70, "70"), (72.0, "72"), (0.5, "0.5"), (1e-05, "0.00001"), (1e16, "10000000000000000"), (-0.0, "0")),
    *((100.0, "100"), (2**70, str(2**70)), (Decimal("12.50"), "12.5"), (Decimal("1E+3"), "1000"), ([3.0], "3")),
    *((missing, "") for missing in (None, math.nan, math.inf, -math.inf, Decimal("NaN"), " ", "nan", [], [None])),
    (DEEP, "3"),
]


@pytest.mark.parametrize(("answer", "text"), AS_WRITTEN, ids=lambda value: str(value)[:20] if value is not DEEP else "")
def test_answers_of_any_column_are_as_one_writes_them(answer: object, text: str) -> None:
    assert question_of(plain("What?", answer)).answer == text
    assert question_of(user("What?", truth=answer)).answer == text
    assert question_of(plain("What?", "1 + 1 = 2\n####")).answer == ""


UNREADABLE: list[tuple[Row, str]] = [
    (chat(("user", "What?"), ("assistant\n", "5")), "end with the user's"),
    ({"prompt": ["What?"], **TRUTH}, "chat messages"),
    ({"prompt": [{"role": "user", "content": [{"type": "image_url"}]}], **TRUTH}, "chat messages"),
    ({"prompt": [{"role": "system", "content": 1}, ASKED], **TRUTH}, "chat messages"),
    (user("What?", truth={"value": "5"}), "in reward_model.ground_truth, got {'value': '5'}"),
    (plain("What?", True), "one text or number in answer, got True"),
    (plain("What?", ["4", "5"]), "one text or number in answer, got ['4', '5']"),
    (plain({"0": "What?"}), "one text or number in problem, got {'0': 'What?'}"),
    (plain("What \ud83d?"), r"text in problem, got '\ud83d' in it"),
    (plain("What?", "5\udc00"), r"text in answer, got '\udc00' in it"),
    (chat(("system", "Be \ud83d"), ("user", "What?")), r"text in prompt, got '\ud83d' in it"),
    (plain("What\0?"), "text in problem, got a NUL character"),
]


@pytest.mark.parametrize(("row", "words"), UNREADABLE)
def test_a_row_that_cannot_be_read_is_refused_in_words(tmp_path: Path, row: Row, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, plain("First?", "1"), row)
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"--train_data: {tmp_path / 'data.jsonl'}, row 2: ")
    assert "\n" not in str(refused.value)


INCOMPLETE: list[Row] = [
    *(plain("What?", answer) for answer in (None, math.nan, "$$")),
    *({"problem": "What?"}, plain(" "), plain(None), {"problem": "What?", "final_answer": "5"}),
    {"question": "How many?", "answer": "2+3 = 5\n####"},
    *({"prompt": [ASKED], "answer": "5"}, user("What?", truth=None), chat(), {}),
]


def test_rows_without_question_or_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    found = read(tmp_path, *INCOMPLETE, plain("What?"))
    assert (found.facts["rows"], found.facts["incomplete"], found.facts["conflicting"]) == (
        len(INCOMPLETE) + 1,
        len(INCOMPLETE),
        0,
    )
    assert found.distinct == (WHAT,)


def test_a_file_of_no_known_schema_is_refused_with_its_columns_in_one_line(tmp_path: Path) -> None:
    for row in [*INCOMPLETE, {"data": [{"problem": "What?"}]}]:
        columns = ", ".join(sorted(row)) or "none"
        with pytest.raises(UsageError) as refused:
            read(tmp_path, row, row)
        assert f"got no row with both, of the columns {columns}: rename them or fill them in" in str(refused.value)
    with pytest.raises(UsageError, match=r"^.{1,800}$"):
        read(tmp_path, {f"a\n{number}": 1 for number in range(9999)})


def test_float32_columns_are_read_by_their_shortest_decimals(tmp_path: Path) -> None:
    column = pa.array([0.1, 3.0, 1e-05, None], pa.float32())
    truth = pa.StructArray.from_arrays([column], ["ground_truth"])
    prompts = [[{"role": "user", "content": letter}] for letter in "ABCD"]
    for table in ({"problem": ["A?", "B?", "C?", "D?"], "answer": column}, {"prompt": prompts, "reward_model": truth}):
        pq.write_table(pa.table(table), tmp_path / "data.parquet")
        found = read_questions(str(tmp_path / "data.parquet"), "train_data")
        assert answers(found) == ["0.1", "3", "0.00001"]


def test_each_question_counts_once_whatever_its_spacing(tmp_path: Path) -> None:
    rows = dapo_rows([("What is 1 + 1?", "2"), ("What is 2?", "2")], times=3)
    found = read(tmp_path, *rows, *dapo_rows([("What is  1 + 1?\n", "2")]))
    assert (found.facts["rows"], found.facts["conflicting"], texts(found)) == (7, 0, ["What is 1 + 1?", "What is 2?"])


def test_a_question_with_several_answers_is_left_out_and_counted(tmp_path: Path) -> None:
    found = read(tmp_path, *dapo_rows([("One?", "1"), ("Two?", "2"), ("One?", "7"), ("One?", "8")]))
    assert (texts(found), found.facts["conflicting"]) == (["Two?"], 1)
    with pytest.raises(UsageError, match="questions with one answer each"):
        read(tmp_path, *dapo_rows([("One?", "1"), ("One?", "7")]))


def test_an_answer_in_several_spellings_is_one_answer(tmp_path: Path) -> None:
    spelled = {
        "Half?": ["0.5", "\\frac12", "1/2", "$0.5$", ".5"],
        "Five?": ["5", "5.0", "$5$", " 5 ", "5.", "05"],
        "Which?": ["(B)", "\\text{(B)}"],
        "Thousand?": ["1,000", "1000"],
        "One or two?": ["1", "1.0", "2"],
        "Both?": ["1", "1, 2"],
        "About?": ["5 \\approx 6", "5"],  # grading by the first accepts the second, but not the other way round
    }
    found = read(tmp_path, *(plain(problem, answer) for problem, some in spelled.items() for answer in some))
    kept = dict(zip(texts(found), answers(found), strict=True))
    assert kept == {"Half?": "0.5", "Five?": "5", "Which?": "(B)", "Thousand?": "1,000"}
    assert found.facts["conflicting"] == 3


def test_what_is_said_before_a_question_makes_it_another(tmp_path: Path) -> None:
    asked = {"Use base 10.": "9", "Use base 8.": "11", "Use base 9.": "10", "Use base  8. ": "11"}
    rows = [chat(("system", said), ("user", "Write 5 + 4."), truth=answer) for said, answer in asked.items()]
    found = read(tmp_path, *rows, user("Write 5 + 4.", truth="9"))
    assert (answers(found), found.facts["conflicting"]) == (["9", "11", "10", "9"], 0)
    assert len({question.identity for question in found.distinct}) == 4
