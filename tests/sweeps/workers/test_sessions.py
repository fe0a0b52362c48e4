"""Nothing that a run has started is left, whatever became of the process that began it."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from sweeps.workers.sessions import Session, end_left_behind, members
from tests.sweeps.processes import session
from tests.waiting import LONG_S, wait_until

SLEEPER = "import sys, time; print('ready', flush=True); time.sleep(600)"


def test_a_session_ends_with_the_child_that_outlives_its_leader() -> None:
    with session() as process:
        led = Session(process, psutil.Process(process.pid))
        assert len(members(process.pid)) == 2
        led.ask_to_end()
        assert process.wait() == -signal.SIGTERM
        assert len(members(process.pid)) == 1  # the child ignores SIGTERM, and goes on without it
        led.end()
        assert led.poll() == -signal.SIGTERM
        assert members(process.pid) == []


def test_another_process_of_the_same_number_is_left_alone() -> None:
    with session() as process:
        other = psutil.Process(process.pid)
        other._pid_reused = True  # what psutil notes when it finds the number given to another process
        Session(None, other).end()
        assert len(members(process.pid)) == 2
        Session(None, psutil.Process(process.pid)).end()
        wait_until(lambda: members(process.pid) == [], "it goes on")


def started(cwd: Path, *words: str, leads: bool = True) -> subprocess.Popen[bytes]:
    """A process that looks like the command, started in the folder; `leads`: a session of its own."""
    command = [sys.executable, "-c", SLEEPER, *words]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, start_new_session=leads)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


TRAIN = ("harness", "train", "--config", "c.json", "--output_dir")


def test_what_a_dead_controller_left_running_is_ended_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    study = Path("runs/sweep")  # the same words in both
    monkeypatch.chdir(here)
    left = [
        (here, *TRAIN, "runs/sweep/runs/fipo-trial0000-seed1000"),
        (here, "harness", "resume", str(here / "runs/sweep/winners/runs/a run")),
        (here, "harness", "prepare", "--config", "runs/sweep/configs/a.json"),
        (there, "harness resume " + str(here / "runs/sweep/runs/forked") + "    "),  # one padded string, when forked
    ]
    others = [
        (there, *TRAIN, "runs/sweep/runs/fipo-trial0000-seed1000"),
        (here, *TRAIN, "runs/sweep-2/runs/fipo-trial0000-seed1000"),
        (here, "harness", "evaluate", "runs/sweep/runs/fipo-trial0000-seed1000"),
        (here / "runs/sweep", *TRAIN, "../other/run"),
    ]
    (here / "runs/sweep").mkdir(parents=True)
    with ExitStack() as stack:
        ours = [stack.enter_context(started(*one)) for one in left]
        theirs = [stack.enter_context(started(*one)) for one in others]
        theirs.append(stack.enter_context(started(*left[0], leads=False)))  # from a shell, whose session it is
        stack.callback(lambda: [os.kill(one.pid, signal.SIGKILL) for one in theirs])
        end_left_behind(study)
        assert [one.wait(LONG_S) for one in ours] == [-signal.SIGTERM] * 4
        assert [one.poll() for one in theirs] == [None] * 5
