"""Forked runs: what they record is what a process of their own would, whatever ran before them."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from harness.run.history import read_history
from sweeps.workers.processes import LOST, Forked, environment, fork, uninterrupted
from sweeps.workers.sessions import works_in
from tests.harness.tiny import small_flags
from tests.sweeps.processes import has_ended
from tests.waiting import LONG_S, wait_until

ROOT = Path(__file__).resolve().parents[3]
LONG = {"steps": 100_000, "eval_every": 100_000}


def started(arguments: list[str], log: Path, **extra: str) -> Forked:
    with log.open("ab") as output:
        process = fork(arguments, output, environment(1, extra))
    assert process is not None
    return process


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
            assert started(arguments, tmp_path / "log").wait(LONG_S) == 0
    fresh = [sys.executable, "-m", "harness", "train", *flags["dapo"], "--output_dir", str(tmp_path / "fresh" / "dapo")]
    subprocess.run(fresh, cwd=ROOT, env=environment(1, {}), check=True, capture_output=True)
    assert recorded(tmp_path / "one" / "dapo") == recorded(tmp_path / "two" / "dapo")
    assert recorded(tmp_path / "one" / "grpo") == recorded(tmp_path / "two" / "grpo")
    assert recorded(tmp_path / "one" / "dapo") == recorded(tmp_path / "fresh" / "dapo")
    assert recorded(tmp_path / "one" / "dapo") != recorded(tmp_path / "one" / "grpo")
    command = read_history(tmp_path / "two" / "grpo").environment["command_line"]
    assert command == ["python", "-m", "harness", "train", *flags["grpo"], "--output_dir", str(tmp_path / "two/grpo")]


def test_it_is_a_process_as_any_other(model_folder: str, tmp_path: Path) -> None:
    folder = tmp_path / "a run"  # a name with a blank
    arguments = ["train", *small_flags(model_folder, **LONG), "--output_dir", str(folder)]
    process = started(arguments, tmp_path / "log", MARK="here")
    assert process.poll() is None
    assert os.getsid(process.pid) == process.pid
    found = psutil.Process(process.pid)
    assert works_in(found, folder.resolve())
    assert works_in(found, tmp_path.resolve())
    assert not works_in(found, tmp_path.resolve() / "another")
    wait_until(lambda: (folder / "metrics.jsonl").exists() or process.poll() is not None, "no step")
    assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(LONG_S) == 75
    assert "stopped by SIGTERM" in (tmp_path / "log").read_text(encoding="utf-8")


def test_its_exit_code_and_its_words_are_its_own(tmp_path: Path) -> None:
    process = started(["train", "--lr", "fast"], tmp_path / "log")
    assert process.wait(LONG_S) == 2
    assert (tmp_path / "log").read_text(encoding="utf-8").startswith("error: ")


def server() -> psutil.Process:
    """The forkserver of this process, among whose children may be ended ones that nobody waited for."""
    alive = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    (found,) = [one for one in alive if "forkserver" in " ".join(one.cmdline())]
    return found


def test_a_killed_server_loses_exit_codes_and_is_replaced(model_folder: str, tmp_path: Path) -> None:
    arguments = ["train", *small_flags(model_folder, **LONG), "--output_dir", str(tmp_path / "run")]
    process = started(arguments, tmp_path / "log")
    first = server()
    first.kill()
    assert process.wait(LONG_S) == LOST
    wait_until(lambda: first.status() == psutil.STATUS_ZOMBIE, "the server is gone")
    psutil.Process(process.pid).kill()
    assert started(["train", "--lr", "fast"], tmp_path / "log").wait(LONG_S) == 2


def test_the_server_ends_with_what_starts_runs() -> None:
    script = (
        "from sweeps.workers.processes import environment, fork; import psutil, time\n"
        "log = open('/dev/null', 'ab'); fork(['train', '--lr', 'fast'], log, environment(1, {})).wait()\n"
        "print(*[one.pid for one in psutil.Process().children()], flush=True); time.sleep(999)"
    )
    starter = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    children = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
    starter.kill()
    starter.communicate()
    assert children
    wait_until(lambda: all(map(has_ended, children)), "the server lives on")
