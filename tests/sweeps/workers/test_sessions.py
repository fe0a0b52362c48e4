"""Runs as sessions: what they record is what a process of their own would, and nothing that they started is left."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from harness.run.history import read_history
from sweeps.workers.sessions import (
    LOST,
    Session,
    end_left_behind,
    environment,
    members,
    start_session,
    uninterrupted,
    works_in,
)
from tests.harness.tiny import small_flags
from tests.sweeps.processes import has_ended, session
from tests.waiting import LONG_S, wait_until

ROOT = Path(__file__).resolve().parents[3]
LONG = {"steps": 100_000, "eval_every": 100_000}
SLEEPER = "import sys, time; print('ready', flush=True); time.sleep(600)"


def begun(arguments: list[str], log: Path, **extra: str) -> Session:
    """The command as a session; with CUDA_VISIBLE_DEVICES it is spawned, else forked."""
    log.touch()
    return start_session(arguments, 1, log, extra)


def ended(led: Session) -> int | None:
    """Its exit code."""
    assert led.process is not None
    led.process.join(LONG_S)
    return led.poll()


def test_a_session_ends_with_the_child_that_outlives_its_leader() -> None:
    with session() as process:
        led = Session(None, psutil.Process(process.pid))
        assert len(members(process.pid)) == 2
        led.ask_to_end()
        assert process.wait() == -signal.SIGTERM
        assert len(members(process.pid)) == 1  # the child ignores SIGTERM, and goes on without it
        led.end()
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


def recorded(folder: Path) -> tuple[list[dict[str, object]], str, list[object]]:
    """Everything that a run computed: metrics without clocks, weights, answers."""
    run = read_history(folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]
    rows = [run.table(kind, step) for kind in ("rollouts", "evals") for step in range(run.steps_done)]
    return steps, run.environment["model_sha256"], rows


def test_a_run_is_no_rank_of_the_job_that_its_search_is_a_part_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert "RANK" not in environment(1, {})


def test_a_signal_waits_until_what_was_begun_is_known_whichever_thread_it_comes_to() -> None:
    begun, waiting = [], threading.Event()
    other = threading.Thread(target=waiting.wait)
    other.start()
    came, comes = socket.socketpair()
    comes.setblocking(False)

    def begin() -> None:
        with uninterrupted():
            signal.pthread_kill(other.ident or 0, signal.SIGINT)
            assert came.recv(1)  # it has come to the other thread
            begun.append("a process")

    with came, comes:
        before = signal.set_wakeup_fd(comes.fileno())
        with pytest.raises(KeyboardInterrupt):
            begin()
        signal.set_wakeup_fd(before)
    waiting.set()
    other.join()
    assert begun == ["a process"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.train
def test_a_run_is_the_same_forked_in_any_order_and_afresh(model_folder: str, tmp_path: Path) -> None:
    flags = {loss: small_flags(model_folder, loss_type=loss, temperature=1.5) for loss in ("grpo", "dapo")}
    orders = {"one": ["grpo", "dapo"], "two": ["dapo", "grpo"]}
    for name, order in orders.items():
        for loss in order:
            arguments = ["train", *flags[loss], "--output_dir", str(tmp_path / name / loss)]
            assert ended(begun(arguments, tmp_path / "log")) == 0
    spawned = ["train", *flags["dapo"], "--output_dir", str(tmp_path / "spawned" / "dapo")]
    assert ended(begun(spawned, tmp_path / "log", CUDA_VISIBLE_DEVICES="")) == 0
    fresh = [sys.executable, "-m", "harness", "train", *flags["dapo"], "--output_dir", str(tmp_path / "fresh" / "dapo")]
    subprocess.run(fresh, cwd=ROOT, env=environment(1, {}), check=True, capture_output=True)
    assert recorded(tmp_path / "one" / "dapo") == recorded(tmp_path / "two" / "dapo")
    assert recorded(tmp_path / "one" / "grpo") == recorded(tmp_path / "two" / "grpo")
    for other in ("fresh", "spawned"):
        assert recorded(tmp_path / "one" / "dapo") == recorded(tmp_path / other / "dapo")
    assert recorded(tmp_path / "one" / "dapo") != recorded(tmp_path / "one" / "grpo")
    command = read_history(tmp_path / "two" / "grpo").environment["command_line"]
    assert command == ["python", "-m", "harness", "train", *flags["grpo"], "--output_dir", str(tmp_path / "two/grpo")]


@pytest.mark.parametrize("extra", [{}, {"CUDA_VISIBLE_DEVICES": ""}])
def test_it_is_a_process_as_any_other(model_folder: str, tmp_path: Path, extra: dict[str, str]) -> None:
    folder = tmp_path / "a run"  # a name with a blank
    arguments = ["train", *small_flags(model_folder, **LONG), "--output_dir", str(folder)]
    led = begun(arguments, tmp_path / "log", **extra)
    assert led.poll() is None
    assert led.leader is not None
    assert os.getsid(led.leader.pid) == led.leader.pid
    for place, works in ((folder, True), (tmp_path, True), (tmp_path / "another", False)):
        assert works_in(led.leader, place.resolve()) == works
    words = (tmp_path / "log").read_text
    wait_until(lambda: (folder / "metrics.jsonl").exists() or led.poll() is not None, "no step")
    assert led.poll() is None, words(encoding="utf-8")
    led.ask_to_end()
    assert ended(led) == 75
    assert "stopped by SIGTERM" in words(encoding="utf-8")


@pytest.mark.parametrize("extra", [{}, {"CUDA_VISIBLE_DEVICES": ""}])
def test_its_exit_code_and_its_words_are_its_own(tmp_path: Path, extra: dict[str, str]) -> None:
    assert ended(begun(["train", "--lr", "fast"], tmp_path / "log", **extra)) == 2
    assert (tmp_path / "log").read_text(encoding="utf-8").startswith("error: ")


def server() -> psutil.Process:
    """The forkserver of this process, among whose children may be ended ones that nobody waited for."""
    alive = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    (found,) = [one for one in alive if "forkserver" in " ".join(one.cmdline())]
    return found


def test_a_killed_server_loses_exit_codes_and_is_replaced(model_folder: str, tmp_path: Path) -> None:
    arguments = ["train", *small_flags(model_folder, **LONG), "--output_dir", str(tmp_path / "run")]
    led = begun(arguments, tmp_path / "log")
    first = server()
    first.kill()
    assert ended(led) == LOST
    wait_until(lambda: has_ended(first), "the server is gone")
    led.end()
    assert led.leader is not None
    assert members(led.leader.pid) == []
    assert ended(begun(["train", "--lr", "fast"], tmp_path / "log")) == 2


def test_the_server_ends_with_what_starts_runs() -> None:
    script = (
        "from sweeps.workers.sessions import start_session; import pathlib, psutil, time\n"
        "start_session(['train', '--lr', 'fast'], 1, pathlib.Path('/dev/null'), {}).process.join()\n"
        "print(*[one.pid for one in psutil.Process().children()], flush=True); time.sleep(999)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    children = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
    starter.kill()
    starter.communicate()
    assert children
    wait_until(lambda: all(map(has_ended, children)), "the server lives on")
