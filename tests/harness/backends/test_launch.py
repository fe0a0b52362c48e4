"""The ranks of a run as a group: one that stands still or fails ends all of them, and nothing is left behind."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.__main__ import main
from harness.backends.rendezvous import is_loopback
from harness.errors import is_out_of_memory
from tests.faults.amount import THOROUGH
from tests.harness.backends.pairings import listening
from tests.harness.command_line import outcome
from tests.harness.tiny import small_flags
from tests.waiting import LONG_S, wait_until

pytestmark = pytest.mark.train
DEEPSPEED = ["--backend", "deepspeed", "--nproc", "2", "--loss_type", "dapo"]


def flags(model: str, run: Path, **changes: Any) -> list[str]:
    return [*small_flags(model, **changes), *DEEPSPEED, "--output_dir", str(run)]


def started(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path) -> None:
    wait_until(path.exists, f"{path} did not come")


def ranks_of(launcher: int) -> dict[str, psutil.Process]:
    """The launcher's processes by rank."""
    return {child.environ()["RANK"]: child for child in psutil.Process(launcher).children()}


def left(run: Path) -> list[int]:
    """Processes that still name the run."""
    return [one.pid for one in psutil.process_iter(["cmdline"]) if str(run) in (one.info["cmdline"] or [])]


def status(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "status.json").read_text(encoding="utf-8"))
    return found


def test_a_rank_that_stands_still_ends_the_group_and_the_run_goes_on_when_resumed(
    model_folder: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = started(["train", *flags(model_folder, run, steps=400, checkpoint_every=2, phase_deadline_s=20)])
    wait_for(run / "checkpoints" / "step_000002")
    ranks_of(process.pid)["1"].send_signal(signal.SIGSTOP)
    _, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: rank 1 in phase ")
    assert " showed no progress for " in line
    assert f"go on with: python -m harness resume {run}" in line
    assert left(run) == []
    assert status(run)["state"] == "preempted"
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["config"]["backend"]["zero_stage"] == 2
    # a signal to the launcher alone stops all ranks at the same step, with a checkpoint
    process = started(["resume", str(run)])
    wait_for(run / "resumes.jsonl")
    steps = len((run / "metrics.jsonl").read_bytes().splitlines())
    wait_until(lambda: len((run / "metrics.jsonl").read_bytes().splitlines()) > steps, "no further step")
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 75
    assert errors.startswith("stopped by SIGTERM after ")
    assert status(run)["state"] == "preempted"
    assert left(run) == []


def test_ranks_of_one_host_listen_on_loopback_alone_and_meet_in_a_folder_of_this_user(
    model_folder: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = started(["train", *flags(model_folder, run, steps=400)])
    wait_for(run / "metrics.jsonl")
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    stores = {Path(rank.environ()["HARNESS_STORE"]) for rank in ranks_of(process.pid).values()}
    try:
        found = listening(family)
        assert len(found) >= 2  # gloo's, of each rank
        assert all(map(is_loopback, found)), found
        (store,) = stores
        assert (store.is_file(), stat.S_IMODE(store.parent.stat().st_mode)) == (True, 0o700)
    finally:
        process.terminate()
        process.communicate(timeout=LONG_S)
    assert not store.parent.exists()


@pytest.mark.skipif(not THOROUGH, reason="a part of make test-deepspeed")
def test_hosts_of_a_hostfile_and_a_run_that_is_reproduced_by_ranks(
    model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for ssh runs here what would run there: two hosts, a rank each."""
    (tmp_path / "ssh").write_text(
        '#!/bin/sh\nfor last; do :; done\nexec env -i HOME="$HOME" PATH=/usr/bin:/bin sh -c "$last"\n', encoding="utf-8"
    )
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "hosts").write_text("127.0.0.1 slots=1\nlocalhost slots=1\n", encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    run, again = tmp_path / "run", tmp_path / "again"
    process = started(["train", *flags(model_folder, run), "--hostfile", str(tmp_path / "hosts")])
    _, errors = process.communicate(timeout=LONG_S)
    assert (process.returncode, status(run)["state"]) == (0, "finished"), errors
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert environment["ranks"] == 2
    process = started(["reproduce", str(run), "--output_dir", str(again)])
    printed, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 0, errors
    assert "identical: " in printed
    assert left(run) == left(again) == []


@pytest.mark.skipif(not THOROUGH, reason="a part of make test-deepspeed")
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_killed_rank_ends_the_group(model_folder: str, tmp_path: Path, rank: str) -> None:
    run = tmp_path / "run"
    process = started(["train", *flags(model_folder, run, steps=400, checkpoint_every=2)])
    wait_for(run / "checkpoints" / "step_000002")
    ranks_of(process.pid)[rank].kill()
    _, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 128 + signal.SIGKILL
    assert f"error: rank {rank} in phase " in errors.splitlines()[-1]
    assert " was killed by SIGKILL; go on with: " in errors.splitlines()[-1]
    assert (left(run), status(run)["state"]) == ([], "preempted")


@pytest.mark.skipif(not THOROUGH, reason="a part of make test-deepspeed")
def test_a_killed_launcher_leaves_nothing(model_folder: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(["train", *flags(model_folder, run, steps=400, checkpoint_every=2)])
    wait_for(run / "checkpoints" / "step_000002")
    process.kill()
    process.communicate(timeout=LONG_S)
    wait_until(lambda: left(run) == [], "ranks live on")


def test_out_of_memory_is_recognised_on_any_rank_and_says_what_to_lower(model_folder: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = started(["train", *flags(model_folder, run, max_response_tokens=10**14)])
    _, errors = process.communicate(timeout=LONG_S)
    assert process.returncode == 1
    assert "error: out of memory in phase evaluation (Unable to allocate " in errors
    assert "lower --micro_batch_size" in errors
    assert (status(run)["state"], status(run)["reason_code"]) == ("failed", "out_of_memory")
    assert left(run) == []


def test_what_counts_as_out_of_memory() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(ValueError("something else"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, "got RANK=1 WORLD_SIZE=2: "),  # of a shell or a pod, with nobody to meet
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "expected RANK below WORLD_SIZE"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "x"}, "MASTER_PORT=x"),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "WORLD_SIZE of --nproc 2 or more"),
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
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code, printed, errors = outcome(main, ["train", *flags(model_folder, tmp_path / "run")], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert expected in errors[0]
    assert not (tmp_path / "run").exists()


def test_a_used_folder_is_refused_before_any_rank_is_started(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    code, printed, errors = outcome(main, ["train", *flags(model_folder, tmp_path)], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "expected a new or empty folder" in errors[0]
