import json
from pathlib import Path
from typing import NamedTuple

import pytest

from harness import Config
from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import early_end, ending_of, is_data, latest_metrics


def run_of(folder: Path, status: object, log: str = "", code: str = "") -> PlannedRun:
    """A run that left this status, these last words, and this code of how it ended."""
    run = PlannedRun("fipo-trial0000", 1000, Config(), folder)
    run.folder.mkdir(parents=True)
    if status is not None:
        (run.folder / "status.json").write_text(json.dumps(status), encoding="utf-8")
    run.log.parent.mkdir()
    run.log.write_text(log, encoding="utf-8")
    run.reason_file.write_text(code.ljust(16), encoding="utf-8")
    return run


def state(name: str, code: str | None = None, reason: str | None = None) -> dict[str, object]:
    return {"state": name, "reason_code": code, "reason": reason, "exit_code": 1, "steps_done": 3}


class Left(NamedTuple):
    """What a process left behind: status.json, its last words, its code; whether the kernel killed for memory."""

    status: object
    log: str = ""
    code: str = ""
    kernel: bool = False


NAN = state("failed", "diverged", "Diverged: step 3: expected finite numbers, got nan in the loss; lower --lr")
MEMORY = state("failed", "out_of_memory", "out of memory in phase update (CUDA out of memory)")
FULL = "error: the disk is full: make room"


@pytest.mark.parametrize(
    ("left", "exit_code", "kind", "words"),
    [
        (Left(state("finished", "finished")), 0, "finished", None),
        (Left(state("finished", "finished")), -9, "finished", None),  # killed when all was written
        (Left(state("preempted", "stopped", "stopped by SIGTERM"), code="stopped"), 75, "stopped", "by SIGTERM"),
        (Left(state("running")), -9, "died", "killed by SIGKILL"),
        (Left(state("running")), 128 + 11, "died", "killed by SIGSEGV"),
        (Left(None), -9, "died", "killed by SIGKILL"),
        (Left("damaged"), -9, "died", "killed"),
        (Left(state("running"), kernel=True), -9, "infeasible", "out of memory: killed by the kernel"),
        (Left(MEMORY, code="out_of_memory"), 1, "infeasible", "out of memory: out of memory in phase update"),
        (Left(MEMORY), 1, "infeasible", "in phase update"),  # a process that was told of no file for its code
        (Left(None, "DefaultCPUAllocator: x", "out_of_memory"), 1, "infeasible", "out of memory: DefaultCPUAll"),
        (Left(NAN, code="diverged"), 1, "infeasible", "diverged: Diverged: step 3: expected finite"),
        (Left(state("failed", "gave_up", "GaveUp: none"), code="gave_up"), 1, "infeasible", "gave up: GaveUp: none"),
        (Left(state("failed", "failed", "HarnessError: out of memory"), code="failed"), 1, "failed", "HarnessError"),
        (Left(state("preempted", "rank_failed", "rank 1 hangs"), code="rank_failed"), 1, "died", "rank 1 hangs"),
        (Left(None, "Traceback\nImportError: no module", "failed"), 1, "failed", "ImportError: no module"),
        (Left(None), 1, "failed", "exit code 1 without a word"),
        (Left(None, "error: --lr: expected a float", "wrong_use"), 2, "wrong_use", "error: --lr: expected a float"),
        (Left(state("preempted", "disk_full", "the disk is full"), FULL, "disk_full"), 1, "disk_full", "make room"),
        (Left(None, FULL, "disk_full"), 1, "disk_full", "the disk is full"),
        (Left(state("running"), "error: x: process 7 on h", "held"), 2, "held", "process 7"),
        (Left(state("running"), "error: x: its lock was lost", "held"), 1, "held", "its lock was lost"),
        # what an earlier process said is not what this one died of
        (Left(state("running"), f"{FULL}\n$ python -m harness resume x"), -9, "died", "SIGKILL"),
    ],
)
def test_how_a_run_ended(tmp_path: Path, left: Left, exit_code: int, kind: str, words: str | None) -> None:
    run = run_of(tmp_path, left.status, left.log, left.code)
    found = ending_of(run, exit_code, left.kernel)
    assert found.kind == kind
    assert words is None or words in str(found.reason)
    code = left.status["reason_code"] if isinstance(left.status, dict) else None
    assert early_end(run) == {"diverged": "diverged", "gave_up": "gave up"}.get(code)
    assert is_data(run) == (kind == "finished" or early_end(run) is not None)


@pytest.mark.parametrize(
    ("written", "metrics"),
    [
        (b'{"step": 0}\n{"step": 1}\n{"st', {"step": 1}),  # torn: still being written
        (b'{"step": 0}\n{"text": "\xc3', {"step": 0}),  # torn within a character
        (b'{"step": 0', {}),
        (b"", {}),
    ],
)
def test_latest_metrics_are_the_last_whole_line(tmp_path: Path, written: bytes, metrics: dict[str, int]) -> None:
    assert latest_metrics(tmp_path) == {}
    (tmp_path / "metrics.jsonl").write_bytes(written)
    assert latest_metrics(tmp_path) == metrics
