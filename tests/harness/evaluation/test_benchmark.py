"""An evaluation in parts is continued only as the one that was begun, and from whole parts."""

import io
import json
import shutil
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.__main__ import main
from tests.harness import runs
from tests.harness.command_line import outcome
from tests.harness.tasks.math_material import save_model

pytestmark = pytest.mark.train

COMMAND = [
    *("evaluate", "model", "--suite", "mine.jsonl", "--samples", "128", "--output_dir", "out"),
    *("--max_response_tokens", "2", "--max_prompt_tokens", "400"),
]
ROWS = [{"problem": f"What is {number} + 1?", "answer": str(number + 1)} for number in range(4)]


def write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a benchmark of four questions and an evaluation of two parts."""
    folder = tmp_path_factory.mktemp("benchmark")
    save_model(folder / "model")
    write_rows(folder / "mine.jsonl", ROWS)
    with chdir(folder):
        main(COMMAND)
    assert len(list((folder / "out" / "answers").iterdir())) == 2
    return folder


@pytest.fixture
def copied(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same to tamper with, as the working directory."""
    copied = Path(shutil.copytree(evaluated, tmp_path / "copied"))
    monkeypatch.chdir(copied)
    return copied


@pytest.mark.parametrize("order", [[2, 3, 0, 1], [0, 1, 3, 2]])
def test_questions_in_another_order_are_another_evaluation(
    copied: Path, capsys: pytest.CaptureFixture[str], order: list[int]
) -> None:
    (copied / "out" / "answers" / "part_000001.parquet").unlink()
    write_rows(copied / "mine.jsonl", [ROWS[number] for number in order])
    refused = outcome(main, COMMAND, capsys)
    assert (refused.exit_code, refused.printed, len(refused.errors)) == (2, [], 1)
    assert "got one with another suites: name a new folder" in refused.errors[0]
    assert len(list((copied / "out" / "answers").iterdir())) == 1


def table(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda part: part[:-20],
    "another table": lambda _: table(text=["a text"]),
    "no rows": lambda part: rows_of(part, slice(0)),
    "too few": lambda part: rows_of(part, slice(255)),
    "other answers": lambda part: rows_of(part, slice(None, None, -1)),
}


def rows_of(part: bytes, kept: slice) -> bytes:
    """A part with some of its rows."""
    content, file = pq.read_table(io.BytesIO(part)), io.BytesIO()
    pq.write_table(pa.Table.from_pylist(content.to_pylist()[kept], schema=content.schema), file)
    return file.getvalue()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_part_is_refused_and_drawn_again_once_it_is_deleted(
    copied: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    part = copied / "out" / "answers" / "part_000001.parquet"
    whole, results = part.read_bytes(), runs.read_json(copied / "out" / "results.json")
    part.write_bytes(DAMAGES[name](whole))
    refused = outcome(main, COMMAND, capsys)
    assert (refused.exit_code, refused.printed, len(refused.errors)) == (2, [], 1)
    assert f"{part.relative_to(copied)}: expected answers, got: " in refused.errors[0]
    assert refused.errors[0].endswith(": delete it to draw them again")
    part.unlink()
    assert outcome(main, COMMAND, capsys).exit_code == 0
    assert part.read_bytes() == whole
    assert runs.read_json(copied / "out" / "results.json") == results
