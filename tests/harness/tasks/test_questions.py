import json
import math
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.errors import UsageError
from harness.tasks.math.files import DataFile
from harness.tasks.math.questions import (
    BOXED_AFTER,
    DAPO_AFTER,
    DAPO_BEFORE,
    Question,
    overlap,
    question_of,
    read_questions,
)
from tests.harness.tasks.math_material import dapo_rows, write_jsonl, write_parquet


def chat(*turns: tuple[str, str], truth: object = "5") -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"prompt": messages, "reward_model": {"ground_truth": truth, "style": "rule"}}


ASKED = {"role": "user", "content": "What?"}
TRUTH = {"reward_model": {"ground_truth": "5"}}


def file_of(path: str) -> DataFile:
    return DataFile(Path(path).stem, Path(path), path, None)


@pytest.mark.parametrize(
    ("row", "question"),
    [
        # DAPO-Math-17k, and AIME 2024 as DAPO published it: their own words around the problem are taken off
        (chat(("user", f"{DAPO_BEFORE}What is 2+3?{DAPO_AFTER}")), Question("What is 2+3?", "5")),
        (chat(("user", f" {DAPO_BEFORE}What is 2+3?{DAPO_AFTER}\r\n")), Question("What is 2+3?", "5")),
        (chat(("user", f"What is 2+3?{BOXED_AFTER}")), Question("What is 2+3?", "5")),
        # words that are only half theirs are the problem's
        (chat(("user", f"{DAPO_BEFORE}What?")), Question(f"{DAPO_BEFORE}What?".strip(), "5")),
        (
            chat(("system", "Be brief."), ("user", " What is 2+3? ")),
            Question("What is 2+3?", "5", (("system", "Be brief."),)),
        ),
        (chat(("user", "What?"), truth=5), Question("What?", "5")),
        # MATH-500
        (
            {"problem": "What is $2+3$?", "solution": "It is 5.", "answer": "5", "subject": "Algebra", "level": 1},
            Question("What is $2+3$?", "5"),
        ),
        # AIME 2025
        ({"problem": "What?", "answer": 70, "id": "0"}, Question("What?", "70")),
        # GSM8K
        ({"question": "How many?", "answer": "2+3 = <<2+3=5>>5\n#### 5"}, Question("How many?", "5")),
        ({"question": "How many?", "answer": "#### 4\n#### 5"}, Question("How many?", "5")),
        # nested columns as text, and contents in parts, as exports have them
        (
            {"prompt": json.dumps([ASKED]), "reward_model": json.dumps({"ground_truth": 5})},
            Question("What?", "5"),
        ),
        (
            {
                "prompt": [{"role": "user", "content": [{"type": "text", "text": text} for text in ("Wh", "at?")]}],
                "reward_model": {"ground_truth": ["5"]},
            },
            Question("What?", "5"),
        ),
        ({"prompt": [{"role": "system", "content": None}, ASKED], **TRUTH}, Question("What?", "5")),
        # a problem that begins with a bracket is no list of messages
        ({"prompt": "[asy]draw(A);[/asy] What?", "answer": "5"}, Question("[asy]draw(A);[/asy] What?", "5")),
        ({"prompt": "[1, 2]", "answer": "5"}, Question("[1, 2]", "5")),
        ({"prompt": [ASKED], "problem": "What?", "answer": "5"}, Question("What?", "5")),
    ],
)
def test_rows_of_the_published_schemas(row: dict[str, Any], question: Question) -> None:
    assert question_of(row) == question


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (70, "70"),
        (72.0, "72"),  # of whole numbers with a null among them
        (0.5, "0.5"),
        (1e-05, "0.00001"),
        (1e16, "10000000000000000"),
        (-0.0, "0"),
        (100.0, "100"),
        (2**70, str(2**70)),
        (Decimal("12.50"), "12.5"),
        (Decimal("1E+3"), "1000"),
        ([3.0], "3"),
        (reduce(lambda inner, _: [inner], range(5000), 3.0), "3"),
        *[(missing, "") for missing in (None, math.nan, math.inf, -math.inf, Decimal("NaN"), " ", "nan", [], [None])],
        ("1 + 1 = 2\n####", ""),
    ],
)
def test_answers_of_any_column_are_as_one_writes_them(answer: object, text: str) -> None:
    assert question_of({"problem": "What?", "answer": answer}).answer == text
    if answer != "1 + 1 = 2\n####":  # GSM8K's mark counts in its own schema alone
        assert question_of(chat(("user", "What?"), truth=answer)).answer == text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (chat(("user", "What?"), ("assistant\n", "5")), "end with the user's"),
        ({"prompt": ["What?"], **TRUTH}, "chat messages"),
        ({"prompt": [{"role": "user", "content": [{"type": "image_url"}]}], **TRUTH}, "chat messages"),
        ({"prompt": [{"role": "system", "content": 1}, ASKED], **TRUTH}, "chat messages"),
        (chat(("user", "What?"), truth={"value": "5"}), "in reward_model.ground_truth, got a dict"),
        ({"problem": "What?", "answer": True}, "one text or number in answer, got a bool"),
        ({"problem": "What?", "answer": ["4", "5"]}, "one text or number in answer, got a list of 2"),
        ({"problem": {"0": "What?"}, "answer": "5"}, "one text or number in problem, got a dict"),
        ({"problem": "What \ud83d?", "answer": "5"}, r"text in problem, got '\ud83d' in it"),
        ({"problem": "What?", "answer": "5\udc00"}, r"text in answer, got '\udc00' in it"),
        (chat(("system", "Be \ud83d"), ("user", "What?")), r"text in prompt, got '\ud83d' in it"),
        ({"problem": "What\0?", "answer": "5"}, "text in problem, got a NUL character"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_in_words(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [{"problem": "First?", "answer": "1"}, row])
    with pytest.raises(UsageError) as refused:
        read_questions(file_of(path), "train_data")
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"--train_data: {path}, row 2: ")
    assert "\n" not in str(refused.value)


INCOMPLETE: list[dict[str, Any]] = [
    {"problem": "What?", "answer": None},
    {"problem": "What?"},
    {"problem": " ", "answer": "5"},
    {"problem": None, "answer": "5"},
    {"question": "How many?", "answer": "2+3 = 5\n####"},
    {"problem": "What?", "answer": math.nan},
    {"problem": "What?", "answer": "$$"},
    {"problem": "What?", "final_answer": "5"},
    {"prompt": [ASKED], "answer": "5"},
    chat(("user", "What?"), truth=None),
    chat(),
    {},
]


def test_rows_without_question_or_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [*INCOMPLETE, {"problem": "What?", "answer": "5"}])
    found = read_questions(file_of(path), "train_data")
    assert (found.rows, found.incomplete, found.conflicting) == (len(INCOMPLETE) + 1, len(INCOMPLETE), 0)
    assert found.distinct == (Question("What?", "5"),)


@pytest.mark.parametrize(
    ("row", "columns"),
    [*[(row, ", ".join(sorted(row)) or "none") for row in INCOMPLETE], ({"data": [{"problem": "What?"}]}, "data")],
)
def test_a_file_of_no_known_schema_is_refused_with_its_columns(
    tmp_path: Path, row: dict[str, Any], columns: str
) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [row, row])
    with pytest.raises(UsageError) as refused:
        read_questions(file_of(path), "train_data")
    assert f"got no row with both, of the columns {columns}: rename them or fill them in" in str(refused.value)


def test_columns_are_named_in_one_line_however_many_there_are(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [{f"a\n{number}": 1 for number in range(9999)}])
    with pytest.raises(UsageError, match=r"^.{1,800}$"):
        read_questions(file_of(path), "train_data")


def test_float32_columns_are_read_by_their_shortest_decimals(tmp_path: Path) -> None:
    answers = pa.array([0.1, 3.0, 1e-05, None], pa.float32())
    pq.write_table(pa.table({"problem": ["A?", "B?", "C?", "D?"], "answer": answers}), tmp_path / "flat.parquet")
    found = read_questions(file_of(str(tmp_path / "flat.parquet")), "train_data")
    assert [question.answer for question in found.distinct] == ["0.1", "3", "0.00001"]
    truth = pa.StructArray.from_arrays([answers], ["ground_truth"])
    prompts = [[{"role": "user", "content": letter}] for letter in "ABCD"]
    pq.write_table(pa.table({"prompt": prompts, "reward_model": truth}), tmp_path / "nested.parquet")
    nested = read_questions(file_of(str(tmp_path / "nested.parquet")), "train_data")
    assert [question.answer for question in nested.distinct] == ["0.1", "3", "0.00001"]


def test_each_question_counts_once_whatever_its_spacing(tmp_path: Path) -> None:
    rows = dapo_rows([("What is 1 + 1?", "2"), ("What is 2?", "2")], times=3)
    rows += dapo_rows([("What is  1 + 1?\n", "2")])
    found = read_questions(file_of(write_parquet(tmp_path / "data.parquet", rows)), "train_data")
    assert (found.rows, found.conflicting) == (7, 0)
    assert [question.text for question in found.distinct] == ["What is 1 + 1?", "What is 2?"]


def test_a_question_with_several_answers_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = dapo_rows([("One?", "1"), ("Two?", "2"), ("One?", "7"), ("One?", "8")])
    found = read_questions(file_of(write_parquet(tmp_path / "data.parquet", rows)), "train_data")
    assert ([question.text for question in found.distinct], found.conflicting) == (["Two?"], 1)
    only = write_parquet(tmp_path / "only.parquet", dapo_rows([("One?", "1"), ("One?", "7")]))
    with pytest.raises(UsageError, match="questions with one answer each"):
        read_questions(file_of(only), "eval_data")


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
    rows = [{"problem": problem, "answer": answer} for problem, answers in spelled.items() for answer in answers]
    found = read_questions(file_of(write_jsonl(tmp_path / "data.jsonl", rows)), "train_data")
    kept = {question.text: question.answer for question in found.distinct}
    assert kept == {"Half?": "0.5", "Five?": "5", "Which?": "(B)", "Thousand?": "1,000"}
    assert found.conflicting == 3


def test_what_is_said_before_a_question_makes_it_another(tmp_path: Path) -> None:
    asked = {"Use base 10.": "9", "Use base 8.": "11", "Use base 9.": "10"}
    rows = [chat(("system", said), ("user", "Write 5 + 4."), truth=answer) for said, answer in asked.items()]
    rows += [
        chat(("user", "Write 5 + 4."), truth="9"),
        chat(("system", "Use base  8. "), ("user", "Write 5 + 4."), truth="11"),
    ]
    found = read_questions(file_of(write_jsonl(tmp_path / "data.jsonl", rows)), "train_data")
    assert ([question.answer for question in found.distinct], found.conflicting) == (["9", "11", "10", "9"], 0)
    assert len({question.identity for question in found.distinct}) == 4
    evaluation = write_jsonl(tmp_path / "plain.jsonl", [{"problem": "Write 5 +  4.", "answer": "9"}])
    plain = read_questions(file_of(evaluation), "eval_data")
    assert overlap(found, plain) == plain.distinct  # the words decide
    assert overlap(plain, found) == found.distinct


def test_overlap_is_found_across_schemas(tmp_path: Path) -> None:
    training = read_questions(
        file_of(write_parquet(tmp_path / "a.parquet", dapo_rows([("A?", "1"), ("B?", "2")]))), "x"
    )
    rows = [{"problem": "B? ", "answer": "2"}, {"problem": "C?", "answer": "3"}]
    evaluation = read_questions(file_of(write_jsonl(tmp_path / "b.jsonl", rows)), "y")
    assert [question.text for question in overlap(training, evaluation)] == ["B?"]
    assert [question.text for question in overlap(evaluation, training)] == ["B?"]
