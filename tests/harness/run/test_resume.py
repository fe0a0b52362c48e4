"""What a resumed run says of initial files that are not as recorded, and which of their hashes it keeps."""

import json
from pathlib import Path

import pytest

from harness.errors import Stopped
from harness.files import sha256_of
from harness.loop import train
from harness.resume import resume
from tests.harness import runs
from tests.harness.backends.pairings import stop_after
from tests.harness.tiny import small_config

pytestmark = pytest.mark.train

FILES = "config.json", "environment.json"


def stopped(model: str, path: Path, checkpoint_every: int) -> Path:
    """A run of three steps that stopped within its second."""
    with pytest.raises(Stopped):
        train(small_config(model, steps=3, checkpoint_every=checkpoint_every), path, stop_after(2))
    return path


def initial_lines(run: Path) -> list[str]:
    return (run / "records.sha256").read_text(encoding="utf-8").splitlines()[: len(FILES)]


@pytest.mark.parametrize(("checkpoint_every", "begins"), [(1, "after 1 of 3 steps"), (10, "from its start")])
@pytest.mark.parametrize("name", FILES)
def test_a_changed_initial_file_is_said_and_not_recorded_anew(
    model_folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    checkpoint_every: int,
    begins: str,
    name: str,
) -> None:
    run = stopped(model_folder, tmp_path / "run", checkpoint_every)
    recorded = initial_lines(run)
    (run / name).write_text(json.dumps(runs.read_json(run / name)), encoding="utf-8")  # the same, spelled otherwise
    capsys.readouterr()
    resume(run, runs.ignore)
    printed = capsys.readouterr().out.splitlines()
    changed = f"{run / name}: has changed since it was written, so it may describe the run's start wrongly"
    assert [line for line in printed if line.startswith(f"note: {run}")] == [f"note: {changed}"]
    assert f"resuming {run} {begins}" in printed
    assert initial_lines(run) == recorded
    assert f"{sha256_of(run / name)}  {name}" not in recorded


@pytest.mark.parametrize("content", [b"", b"0" * 64 + b"  config.json\n", b"\xff\xfe", None])
def test_recorded_hashes_that_are_damaged_are_said(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    run = stopped(model_folder, tmp_path / "run", checkpoint_every=10)
    recorded, records = initial_lines(run), run / "records.sha256"
    records.unlink() if content is None else records.write_bytes(content)
    capsys.readouterr()
    resume(run, runs.ignore)
    said = f"note: {records}: expected hashes of config.json, environment.json first, got others: "
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith(said)]
    assert initial_lines(run) == recorded
