import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.__main__ import main
from harness.errors import UsageError
from harness.run.history import read_history, read_lines
from harness.run.record import RunFolder
from tests.harness.command_line import outcome
from tests.harness.tiny import small_config

LINES = b'{"step": 0, "x": 1.5}\n{"step": 1, "x": null}\n'
ROWS = [{"step": 0, "x": 1.5}, {"step": 1, "x": None}]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run before its first step."""
    return RunFolder.create(tmp_path / "run", small_config("tiny", seed=3), {"threads": 1}, None).path


def read(tmp_path: Path, content: bytes) -> list[dict[str, Any]]:
    (tmp_path / "lines.jsonl").write_bytes(content)
    return read_lines(tmp_path / "lines.jsonl")


@pytest.mark.parametrize("torn", [b"", b"{", b'{"step": 2', b'{"step": 2}', b"\xff", b"[[[["])
def test_one_torn_last_line_is_expected(tmp_path: Path, torn: bytes) -> None:
    assert read(tmp_path, LINES + torn) == ROWS
    assert read(tmp_path, torn) == []
    assert read_lines(tmp_path / "missing.jsonl") == []


@pytest.mark.parametrize(
    "content",
    [
        b"{\n" + LINES,  # torn, and not the last
        LINES + b"\n",
        LINES[22:],  # the first line is missing
        LINES.replace(b'"step": 1', b'"stop": 1'),
        *(LINES.replace(b'"step": 1', b'"step": ' + step) for step in (b'"1"', b"true", b"1.0")),
        LINES + b"[2]\n",
        LINES + b"\xff\n",
        LINES + b"[" * 100_000 + b"\n",
        LINES + b'{"step": 2}{"step": 3}\n',
    ],
    ids=lambda content: repr(content[-12:]),
)
def test_any_other_damage_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"expected the metrics of step \d on line \d, got b") as raised:
        read(tmp_path, content)
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 1000


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "a list": lambda path: path.write_bytes(b"[" + path.read_bytes() + b"]"),
}


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_one_line_that_names_it(
    run: Path, capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    DAMAGES[damage](run / name)
    for arguments in (["resume", run], ["reproduce", run], ["diff", run, run]):
        code, printed, errors = outcome(main, arguments, capsys)
        assert (code, printed, len(errors)) == (2, [], 1)
        assert name in errors[0]
        assert not list(run.parent.glob(".*"))


@pytest.mark.parametrize("section", ["optimizer", "loss", "run"])
def test_settings_that_were_changed_are_refused(run: Path, section: str) -> None:
    content = json.loads((run / "config.json").read_bytes())
    flag = next(flag for flag in content["config"][section] if flag != "output_dir")
    content["config"][section][flag] = 7
    (run / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError, match="the settings have changed since they were written"):
        read_history(run)


def test_another_schema_is_refused_and_a_run_may_be_moved(run: Path, tmp_path: Path) -> None:
    assert read_history(Path(shutil.copytree(run, tmp_path / "moved"))).config == read_history(run).config
    content = json.loads((run / "config.json").read_bytes())
    for version in (None, 0, 2, "1"):
        (run / "config.json").write_text(json.dumps(content | {"schema_version": version}), encoding="utf-8")
        with pytest.raises(UsageError, match=f"expected a run of schema version 1, got {version!r}"):
            read_history(run)


def test_a_table_that_is_none_is_refused(run: Path) -> None:
    (run / "rollouts").mkdir()
    no_text = io.BytesIO()
    pq.write_table(pa.table({"text": ["a text"]}), no_text)
    for content in (b"", b"PAR1PAR1", no_text.getvalue().replace(b"a text", b"a \xff\xff\xff\xff")):
        (run / "rollouts" / "step_000000.parquet").write_bytes(content)
        with pytest.raises(UsageError, match="expected a parquet file, got: ") as raised:
            read_history(run).table("rollouts", 0)
        assert len(str(raised.value).splitlines()) == 1
