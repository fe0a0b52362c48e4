import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.amount import spread
from tests.faults.forked import forked, going_on
from tests.faults.verdict import Truth, lost, struck
from tests.faults.writes import killed_at, listed_in

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
