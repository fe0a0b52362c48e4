import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults.amount import amount, spread
from tests.faults.forked import ended, forked, going_on, start
from tests.faults.verdict import Truth, lost, struck, verdict
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
    for case in spread(len(numbers), short=4 if half_done or is_resumed else 8):
        fault = killed_at(numbers[case], half_done)
        killed, ending = struck(fipo, tmp_path / str(case), fault, half if is_resumed else None)
        assert killed.code == -signal.SIGKILL
        endings[f"{case} {writes[numbers[case]]}"] = ending
    assert lost(endings) == {}


def writes_of_a_resume(truth: Truth, half: Path, folder: Path) -> list[str]:
    shutil.copytree(half, folder / "listed")
    forked(going_on(truth.config, folder / "listed"), folder / "log", listed_in(folder / "writes"))
    return (folder / "writes").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("loss", ["fipo", "dapo"])
def test_killed_again_and_again_at_random_moments_it_ends_as_if_it_had_not_been(
    loss: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    truth: Truth = request.getfixturevalue(loss)
    generator = np.random.default_rng(0)
    kills, endings = 0, {}
    while kills < amount(short=3, thorough=100):
        folder = tmp_path / str(len(endings))
        folder.mkdir()
        go_on, log = going_on(truth.config, folder / "run"), folder / "log"
        moments = generator.uniform(0, truth.duration_s, size=generator.integers(1, 5))
        kills += sum([killed_after(moment, start(go_on, log), log) for moment in moments])
        endings[f"{len(endings)}: {moments}"] = verdict(folder / "run", truth.run, forked(go_on, log))
        shutil.rmtree(folder)
    assert lost(endings) == {}


def killed_after(moment: float, pid: int, log: Path) -> bool:
    """Whether the kill came before the end."""
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    return ended(pid, log).code == -signal.SIGKILL
