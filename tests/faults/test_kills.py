import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults.amount import amount, spread
from tests.faults.conftest import Truth
from tests.faults.forked import ended, forked, going_on, start
from tests.faults.verdict import Toll, verdict
from tests.faults.writes import killed_at, listed_in

pytestmark = pytest.mark.train


@pytest.mark.parametrize("half_done", [False, True])
def test_killed_at_any_write_a_run_is_resumed_as_if_it_had_not_been(
    fipo: Truth, tmp_path: Path, toll: Toll, half_done: bool
) -> None:
    numbers = tearable(fipo.writes) if half_done else range(len(fipo.writes))
    kind = f"killed {'within' if half_done else 'before'} a write"
    for case in spread(len(numbers), short=4 if half_done else 12):
        folder = tmp_path / str(case)
        folder.mkdir()
        go_on = going_on(fipo.config, folder / "run")
        killed = forked(go_on, folder / "killed", killed_at(numbers[case], half_done))
        assert killed.code == -signal.SIGKILL
        ending = verdict(folder / "run", fipo.run, forked(go_on, folder / "log"))
        toll.add(kind, fipo.writes[numbers[case]], ending)
        shutil.rmtree(folder)
    toll.check()


@pytest.mark.parametrize("half_done", [False, True])
def test_killed_at_any_write_of_a_resume_it_is_resumed_again(
    fipo: Truth, half: Path, tmp_path: Path, toll: Toll, half_done: bool
) -> None:
    shutil.copytree(half, tmp_path / "listed")
    forked(going_on(fipo.config, tmp_path / "listed"), tmp_path / "log", listed_in(tmp_path / "writes"))
    writes = (tmp_path / "writes").read_text(encoding="utf-8").splitlines()
    numbers = tearable(writes) if half_done else range(len(writes))
    for case in spread(len(numbers), short=4):
        folder = tmp_path / str(case)
        shutil.copytree(half, folder / "run")
        go_on = going_on(fipo.config, folder / "run")
        killed = forked(go_on, folder / "killed", killed_at(numbers[case], half_done))
        assert killed.code == -signal.SIGKILL
        ending = verdict(folder / "run", fipo.run, forked(go_on, folder / "log"))
        toll.add(f"killed {'within' if half_done else 'before'} a resume's write", writes[numbers[case]], ending)
        shutil.rmtree(folder)
    toll.check()


def tearable(writes: list[str]) -> list[int]:
    """The numbers of those that can be half done."""
    return [number for number, what in enumerate(writes) if what.startswith(("write", "save"))]


@pytest.mark.parametrize("loss", ["fipo", "dapo"])
def test_killed_again_and_again_at_random_moments_it_ends_as_if_it_had_not_been(
    loss: str, request: pytest.FixtureRequest, tmp_path: Path, toll: Toll
) -> None:
    truth: Truth = request.getfixturevalue(loss)
    generator = np.random.default_rng(0)
    kills = chain = 0
    while kills < amount(short=3, thorough=100):
        folder = tmp_path / str(chain)
        folder.mkdir()
        go_on, log, chain = going_on(truth.config, folder / "run"), folder / "log", chain + 1
        moments = generator.uniform(0, truth.duration_s, size=generator.integers(1, 5))
        killed = [killed_after(moment, start(go_on, log), log) for moment in moments]
        kills += sum(killed)
        ending = verdict(folder / "run", truth.run, forked(go_on, log))
        for _ in range(sum(killed)):
            toll.add("killed at a random moment", f"chain {chain} of {loss}: {moments}", ending)
        shutil.rmtree(folder)
    toll.check()


def killed_after(moment: float, pid: int, log: Path) -> bool:
    """Whether the kill came before the end."""
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    return ended(pid, log).code == -signal.SIGKILL
