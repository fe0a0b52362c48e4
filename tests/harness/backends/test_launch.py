"""The ranks of a run as a group: one that hangs or fails ends all of them, and nothing is left behind."""

import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from harness.__main__ import main
from harness.backends.launch import LOG, Ending, ending_of, first_fault
from harness.backends.rendezvous import is_loopback
from harness.console import command
from harness.errors import is_out_of_memory
from tests.harness import runs
from tests.harness.backends.failing import DEADLINE_S
from tests.harness.backends.pairings import listening
from tests.harness.command_line import outcome
from tests.harness.tiny import small_flags
from tests.sweeps.processes import processes_that_name
from tests.waiting import LONG_S, wait_until

pytestmark = pytest.mark.train
THOROUGH = bool(os.environ.get("THOROUGH"))
DEEPSPEED = ["--backend", "deepspeed", "--nproc", "2", "--loss_type", "dapo", "--epsilon_high", "0.28"]


def flags(model: str, run: Path, **changes: Any) -> list[str]:
    return [*small_flags(model, **changes), *DEEPSPEED, "--output_dir", str(run)]


def started(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def ranks_of(launcher: int) -> dict[str, psutil.Process]:
    """The launcher's processes by rank; one that has only been forked has its launcher's environment still."""
    ranks = dict[str, psutil.Process]()
    for child in psutil.Process(launcher).children():
        with suppress(psutil.NoSuchProcess, KeyError):  # what has ended since, and what is no rank, or not yet
            ranks[child.environ()["RANK"]] = child
    return ranks


def only_line(errors: str) -> str:
    lines = errors.splitlines()
    assert len(lines) == 1, errors
    return lines[0]


def status(run: Path) -> Any:
    return runs.read_json(run / "status.json")


def steps(run: Path) -> int:
    path = run / "metrics.jsonl"
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def wait_for_step(run: Path, process: subprocess.Popen[str]) -> None:
    """Until the run has made one more step."""
    before = steps(run)
    wait_until(lambda: steps(run) > before or process.poll() is not None, "no step")
    assert process.poll() is None, process.communicate()


def test_a_killed_rank_ends_the_group_and_the_run_goes_on_until_a_signal_stops_all_ranks_at_one_step(
    model_folder: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = started(["train", *flags(model_folder, run, steps=400, checkpoint_every=1)])
    wait_for_step(run, process)
    ranks_of(process.pid)["1"].kill()
    _, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 128 + signal.SIGKILL
    line = only_line(errors)
    assert line.startswith("error: rank 1 in phase ")
    assert line.endswith(f" was killed by SIGKILL; resume with: {command('harness', 'resume', run)}")
    assert (processes_that_name(str(run)), status(run)["state"]) == ([], "preempted")
    assert status(run)["reason"] in line

    process = started(["resume", str(run)])
    wait_for_step(run, process)
    check_sockets(process.pid)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 75
    line = only_line(errors)
    assert line.startswith("stopped by SIGUSR1 after ")
    assert line.endswith(f"; resume with: {command('harness', 'resume', run)}")
    assert (processes_that_name(str(run)), status(run)["state"]) == ([], "preempted")
    assert (run / "checkpoints" / f"step_{steps(run):06d}").is_dir()

    again = started(["reproduce", str(run), "--steps", "1", "--output_dir", str(tmp_path / "again")])
    printed, errors = again.communicate(timeout=LONG_S)
    assert (again.returncode, errors) == (0, "")
    assert "ranks: " not in printed
    assert printed.splitlines()[-1].startswith("identical: ")


def check_sockets(launcher: int) -> None:
    """The ranks and their launcher listen on loopback alone, and meet in a folder of this user."""
    family = [psutil.Process(launcher), *psutil.Process(launcher).children(recursive=True)]
    found = listening(family)
    assert len(found) >= 2  # gloo's, of each rank
    assert all(map(is_loopback, found)), found
    (store,) = {Path(rank.environ()["HARNESS_STORE"]) for rank in ranks_of(launcher).values()}
    assert (store.is_file(), stat.S_IMODE(store.parent.stat().st_mode)) == (True, 0o700)


def test_a_killed_launcher_leaves_nothing(model_folder: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(["train", *flags(model_folder, run, steps=400)])
    wait_until(lambda: len(ranks_of(process.pid)) == 2, "no ranks")  # which have not even imported anything
    process.kill()
    process.communicate(timeout=LONG_S)
    wait_until(lambda: processes_that_name(str(run)) == [], "ranks live on")


FAULTS = {
    "hangs": f"rank 1 in phase update showed no progress for 0:00:{DEADLINE_S:.0f} (File ",
    "unable": "rank 1: unable to go on: raise --lr",
    "surprised": "rank 1 in phase update failed: ValueError: surprised; its log: ",
}


@pytest.mark.parametrize("fault", list(FAULTS) if THOROUGH else ["hangs", "unable"])
def test_the_rank_that_failed_is_named(fault: str, tmp_path: Path) -> None:
    code_of_launch = (
        "from harness.backends.launch import launch; from harness.config.resolve import resolve; "
        "from harness.cli.parser import run_command; import sys; "
        f"config = resolve({{'backend': 'deepspeed', 'nproc': 2, 'phase_deadline_s': {DEADLINE_S}}}); "
        f"words = ['-m', 'tests.harness.backends.failing', '{fault}']; "
        "sys.exit(run_command(lambda _: launch(config, words), []))"
    )
    kept = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code_of_launch]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False, env=kept)
    line = only_line(done.stderr)
    assert done.returncode == 1
    assert line.removeprefix("error: ").startswith(FAULTS[fault])
    assert ("failing.py" in line) == (fault == "hangs")
    logs = [path.read_text(encoding="utf-8") for path in tmp_path.rglob(LOG) if str(path) in line]
    assert any(words in "".join(logs) for words in ("Traceback", "Timeout")) == (fault in ("surprised", "hangs"))
    assert bool(logs) == bool(list(tmp_path.iterdir())) == ("its log: " in line)


def ending(folder: Path, rank: int, code: int, stderr: str) -> Ending:
    """How a rank ended that left these words."""
    own = folder / str(rank)
    own.mkdir()
    (own / LOG).write_text(stderr, encoding="utf-8")
    return ending_of(rank, code, own)


def test_the_fault_that_is_named_is_the_first_ranks_own(tmp_path: Path) -> None:
    victim, killed = ending(tmp_path, 0, 76, "error: another rank is gone\n"), ending(tmp_path, 1, -9, "")
    fault = first_fault([victim, killed], is_memory=True, requested=None)
    assert (fault.exit_code, fault.is_final) == (137, False)
    assert str(fault).startswith("rank 1 in phase start was killed by SIGKILL; out of memory: lower --micro_batch_size")
    own = ending(tmp_path, 2, 1, "error: out of memory in phase update: lower it\n[W129 process group.cpp:1] frames\n")
    fault = first_fault([victim, own], is_memory=False, requested=None)
    assert (str(fault), fault.exit_code, fault.is_final) == ("rank 2: out of memory in phase update: lower it", 1, True)
    misused = ending(tmp_path, 3, 2, "error: --lr: expected a number, got 'x'\n")
    fault = first_fault([victim, misused], is_memory=False, requested=None)
    assert (str(fault), fault.exit_code) == ("--lr: expected a number, got 'x'", 2)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"])
def test_ranks_that_a_stop_signal_ended_before_they_could_heed_it_were_stopped(name: str, tmp_path: Path) -> None:
    endings = [ending(tmp_path, rank, -signal.Signals[name], "") for rank in (0, 1)]
    fault = first_fault(endings, is_memory=False, requested=name)
    assert (str(fault), fault.exit_code, fault.code) == (f"stopped by {name} before the first step", 75, "stopped")


def test_out_of_memory_is_recognised_and_says_what_to_lower(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    more = small_flags(model_folder, max_response_tokens=10**14)
    code, _, errors = outcome(main, ["train", *more, "--output_dir", run], capsys)
    assert (code, len(errors)) == (1, 1)
    assert "out of memory in phase evaluation (Unable to allocate " in errors[0]
    assert "lower --micro_batch_size" in errors[0]
    assert (status(run)["state"], status(run)["reason_code"]) == ("failed", "out_of_memory")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(ValueError("something else"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, "got RANK=1 WORLD_SIZE=2: "),  # of a shell or a pod, with nobody to meet
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "got RANK=0 WORLD_SIZE=1: "),
        ({"RANK": "2", "WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"}, "expected RANK below WORLD_SIZE"),
        ({"RANK": "0", "WORLD_SIZE": "x", "TORCHELASTIC_USE_AGENT_STORE": "True"}, "WORLD_SIZE=x"),
    ],
)
def test_an_environment_of_another_job_is_one_line(
    environment: dict[str, str],
    expected: str,
    model_folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, printed, errors = outcome(main, ["train", *flags(model_folder, tmp_path / "run")], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert expected in errors[0]
    assert not (tmp_path / "run").exists()
