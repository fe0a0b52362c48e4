"""A fault at any write: the process is killed, or the disk is full."""

import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.amount import spread
from tests.faults.forked import Ended, forked, going_on
from tests.faults.verdict import Truth, lost, struck
from tests.faults.writes import ROOM_MAKING, full_at, killed_at, listed_in

pytestmark = pytest.mark.train


@pytest.mark.parametrize("half_done", [False, True])
@pytest.mark.parametrize("is_resumed", [False, True])
def test_killed_at_any_write_a_run_is_resumed_as_if_it_had_not_been(
    fipo: Truth, half: Path, tmp_path: Path, is_resumed: bool, half_done: bool
) -> None:
    """Before a write, or within it where it can be half done; of a run, or of its resume."""
    writes = writes_of_a_resume(fipo, half, tmp_path) if is_resumed else fipo.writes
    numbers = [n for n, what in enumerate(writes) if not half_done or what.startswith(("write", "save"))]
    endings = {}
    for case in spread(len(numbers), short=3 if half_done or is_resumed else 5):
        fault = killed_at(numbers[case], half_done)
        killed, ending = struck(fipo, tmp_path / str(case), fault, half if is_resumed else None)
        assert killed.code == -signal.SIGKILL
        endings[f"{case} {writes[numbers[case]]}"] = ending
    assert lost(endings) == {}


def writes_of_a_resume(truth: Truth, half: Path, folder: Path) -> list[str]:
    shutil.copytree(half, folder / "listed")
    forked(going_on(truth.config, folder / "listed"), folder / "log", listed_in(folder / "writes"))
    return (folder / "writes").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("lasting", [True, False])
def test_a_full_disk_is_named_and_with_room_again_the_run_is_resumed(
    fipo: Truth, tmp_path: Path, lasting: bool
) -> None:
    writes = [what for what in fipo.writes if what.split()[0] not in ROOM_MAKING]
    endings = {}
    for number in spread(len(writes), short=3):
        full, ending = struck(fipo, tmp_path / str(number), full_at(number, lasting))
        endings[f"{number} {writes[number]}"] = wrong_with(full) or ending
    assert lost(endings) == {}


def wrong_with(full: Ended) -> str | None:
    """What is not as it must be where the disk was full: one line that says so; 2 where nothing was begun."""
    lines = [line for line in full.printed.splitlines() if not line.startswith("step ")]
    is_named = len(lines) == 1 and lines[0].startswith("error: ")
    cause = {1: "the disk is full", 2: "No space left on device"}.get(full.code, "?")
    is_right = full.code == 0 or (is_named and cause in full.printed)
    return None if is_right else f"exit code {full.code}: {full.printed[-1000:]}"
