"""Files of a run folder as damage may leave them: read as they were written, or refused in one line."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.config.resolve import tree_of, tree_sha256
from harness.config.schema import Config
from harness.run.history import read_history, read_lines
from harness.run.record import ROLLOUT_SCHEMA, RunFolder
from tests.faults.fuzz.mutations import CONFIG, JSON, as_json, confused, damaged, fuzzed, or_one_line

ENVIRONMENT = {"commit": "0" * 40, "packages": {"torch": "2.0"}, "cpu": "one", "threads": 1, "model_revision": None}


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """The folder of a run before its first step."""
    return RunFolder.create(place / "run", CONFIG, ENVIRONMENT, None).path


def written(name: str) -> dict[str, Any]:
    """What the run wrote there."""
    tree = tree_of(CONFIG)
    contents: dict[str, dict[str, Any]] = {
        "config.json": {"schema_version": 1, "sha256": tree_sha256(tree), "config": tree},
        "environment.json": ENVIRONMENT,
        "status.json": {"state": "running", "reason_code": None, "reason": None, "exit_code": None, "steps_done": 0},
    }
    return contents[name]


@st.composite
def damaged_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of the run, and what it now holds; settings of other types may come with the hash that fits them."""
    name = draw(st.sampled_from(["config.json", "environment.json", "status.json"]))
    if draw(st.booleans()):
        return name, draw(damaged(as_json(written(name))))
    content = draw(confused(written(name)))
    if name == "config.json" and draw(st.booleans()) and isinstance(content, dict):
        tree = content.get("config")
        content["sha256"] = tree_sha256(tree) if isinstance(tree, dict) else "0" * 64
    return name, as_json(content)


def but_for_the_place(config: Config) -> dict[str, Any]:
    tree = tree_of(config)
    return tree | {"run": tree["run"] | {"output_dir": None}}


@fuzzed(100, 12_000)
@given(damaged_files())
def test_a_run_folder_is_read_as_written_or_refused(run: Path, file: tuple[str, bytes]) -> None:
    name, content = file
    before = (run / name).read_bytes()
    (run / name).write_bytes(content)
    try:
        with or_one_line():
            history = read_history(run)
            found = json.loads((run / name).read_bytes()) if name != "status.json" else None
            if name == "config.json" and found["sha256"] == written(name)["sha256"]:
                assert but_for_the_place(history.config) == but_for_the_place(CONFIG)
            if name == "environment.json":
                assert same(history.environment, found)
            assert history.state in ("running", "unknown") or name == "status.json"
            assert isinstance(history.state, str)
    finally:
        (run / name).write_bytes(before)


def same(ours: object, theirs: object) -> bool:
    """Equality under which NaN is itself."""
    return json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)


LINES = [as_json({"step": step, "loss/token_loss": step / 3, "none": None, "text": "a\nb\u2028"}) for step in range(4)]
BAD_LINES = JSON.map(as_json) | confused({"step": 1, "loss/token_loss": 0.5}).map(as_json) | st.binary(max_size=8)
MIXED = st.lists(st.sampled_from(LINES) | BAD_LINES, max_size=4)
FILES_OF_LINES = damaged(b"\n".join(LINES) + b"\n") | st.tuples(MIXED, st.sampled_from([b"", b"\n"])).map(
    lambda parts: b"\n".join(parts[0]) + parts[1]
)


@fuzzed(100, 15_000)
@given(FILES_OF_LINES)
@example(b"")
@example(b"\n")
def test_lines_are_read_as_written_or_refused(place: Path, content: bytes) -> None:
    (place / "lines.jsonl").write_bytes(content)
    with or_one_line():
        rows = read_lines(place / "lines.jsonl")
        assert [row["step"] for row in rows] == list(range(content.count(b"\n")))
        for row, line in zip(rows, content.split(b"\n"), strict=False):
            assert same(row, json.loads(line))


ROWS = [
    dict.fromkeys(ROLLOUT_SCHEMA.names)
    | {"step": 0, "prompt_id": f"{number:016x}", "text": "a2b4=é#4", "tokens": [1, 2, number], "reward": number / 3}
    for number in range(5)
]


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=ROLLOUT_SCHEMA), file)
    return file.getvalue()


def test_a_text_that_is_no_text_is_refused(run: Path) -> None:
    (run / "rollouts").mkdir(exist_ok=True)
    content = as_parquet(ROWS).replace("a2b4=é#4".encode(), b"a2b4=\xff\xff#4")
    (run / "rollouts" / "step_000000.parquet").write_bytes(content)
    with or_one_line():
        read_history(run).table("rollouts", 0)


@fuzzed(50, 4_000)
@given(damaged(as_parquet(ROWS)))
def test_a_table_is_read_or_refused(run: Path, content: bytes) -> None:
    (run / "rollouts").mkdir(exist_ok=True)
    (run / "rollouts" / "step_000000.parquet").write_bytes(content)
    with or_one_line():
        assert isinstance(read_history(run).table("rollouts", 0), list)
