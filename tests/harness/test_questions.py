from pathlib import Path
from typing import Any

import pytest

from harness.data_files import DataFile
from harness.errors import UsageError
from harness.questions import BOXED_AFTER, DAPO_AFTER, DAPO_BEFORE, Question, overlap, question_of, read_questions
from tests.harness.math_material import dapo_rows, write_jsonl, write_parquet


def chat(*turns: tuple[str, str], truth: object = "5") -> dict[str, Any]:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"prompt": messages, "reward_model": {"ground_truth": truth, "style": "rule"}}


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
    ],
)
def test_rows_of_the_published_schemas(row: dict[str, Any], question: Question) -> None:
    assert question_of(row) == question


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": [{"role": "user", "content": "What?"}], "answer": "5"}, "nothing in reward_model.ground_truth"),
        (chat(("user", "What?"), truth=None), "nothing in reward_model.ground_truth"),
        (chat(("user", "What?"), ("assistant", "5")), "end with the user's"),
        (chat(), "end with the user's"),
        ({"prompt": ["What?"], "reward_model": {"ground_truth": "5"}}, "chat messages"),
        ({"text": "What?", "answer": "5"}, "nothing in problem, of the columns answer, text"),
        ({"problem": "What?"}, "nothing in answer"),
        ({"problem": "What?", "answer": True}, "nothing in answer"),
        ({"problem": " ", "answer": "5"}, "nothing in problem"),
        ({}, "of the columns none"),
    ],
)
def test_a_row_of_no_known_schema_is_refused_in_words(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [{"problem": "First?", "answer": "1"}, row])
    with pytest.raises(UsageError) as refused:
        read_questions(file_of(path), "train_data")
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"--train_data: {path}, row 2: ")


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


def test_overlap_is_found_across_schemas(tmp_path: Path) -> None:
    training = read_questions(
        file_of(write_parquet(tmp_path / "a.parquet", dapo_rows([("A?", "1"), ("B?", "2")]))), "x"
    )
    rows = [{"problem": "B? ", "answer": "2"}, {"problem": "C?", "answer": "3"}]
    evaluation = read_questions(file_of(write_jsonl(tmp_path / "b.jsonl", rows)), "y")
    assert [question.text for question in overlap(training, evaluation)] == ["B?"]
    assert [question.text for question in overlap(evaluation, training)] == ["B?"]
