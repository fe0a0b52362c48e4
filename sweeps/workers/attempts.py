"""One try at a planned run: its process, what it has recorded, how it ended, and what is to be done about that."""

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness import REASON_FILE
from sweeps.study.folder import PlannedRun, set_aside
from sweeps.workers.sessions import Session, start_session

STARTED = "$ python -m harness "  # begins the line that stands before what a process prints
WRONG_USE, STOPPED = 2, 75  # exit codes
SIGNALLED = 128  # plus the signal: how a launcher says that a rank was killed
EARLY_ENDS = {"diverged": "diverged", "gave_up": "gave up"}  # results, which the same run would give again
INFEASIBLE = {"out_of_memory": "out of memory", **EARLY_ENDS}


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    finished, stopped (by a signal: can be resumed), held (another process writes the folder: try later), died (killed:
    can be tried again), infeasible (out of memory, diverged or gave up: these settings cannot be run), failed (would
    fail again), wrong_use and disk_full (as would all other runs).
    """

    kind: Literal["finished", "stopped", "held", "died", "infeasible", "failed", "wrong_use", "disk_full"]
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Attempt:
    """A run's process, or what became of it."""

    run: PlannedRun
    session: Session

    def ending(self, out_of_memory: bool = False) -> Ending:
        """How it ended, once its process has; `out_of_memory`: the kernel killed something for memory meanwhile."""
        return ending_of(self.run, self.session.poll() or 0, out_of_memory)


def start(run: PlannedRun, extra: Mapping[str, str]) -> Attempt:
    """Start or resume the run, its output going to the run's log."""
    if run.can_be_resumed:
        arguments = ["resume", str(run.folder)]
    else:
        set_aside(run.folder, run.study)  # what a failed attempt left
        arguments = ["train", "--config", str(run.config_file), "--output_dir", str(run.folder)]
    run.log.parent.mkdir(exist_ok=True)
    run.reason_file.write_text(" " * 16, encoding="utf-8")  # room for a code, whatever becomes of the disk
    extra = {**extra, REASON_FILE: str(run.reason_file.absolute())}
    with run.log.open("ab") as log:  # what an earlier attempt said stays above
        log.write(f"{STARTED}{' '.join(arguments)}\n".encode())
        log.flush()
        return Attempt(run, start_session(arguments, run.config.run.threads, log, extra))


def ending_of(run: PlannedRun, exit_code: int, out_of_memory: bool = False) -> Ending:
    """How the run ended, from its process's exit code and what it left."""
    status, words = run.status(), last_words(run)
    reason = str(status.get("reason") or "") or words
    if status.get("state") == "finished":  # written last: a process killed after it has done all
        return Ending("finished")
    code = run.reason_code() or status.get("reason_code")
    if code == "out_of_memory" or (exit_code in (-9, SIGNALLED + 9) and out_of_memory):
        return Ending("infeasible", f"out of memory: {reason or 'killed by the kernel'}")
    if exit_code < 0 or exit_code > SIGNALLED:
        number = -exit_code if exit_code < 0 else exit_code - SIGNALLED
        why = " (out of memory, if nobody did it)" if number == signal.SIGKILL else ""
        return Ending("died", f"killed by {signal.Signals(number).name}{why}")
    if code in ("held", "disk_full"):
        return Ending("held" if code == "held" else "disk_full", words)
    if exit_code == WRONG_USE:
        return Ending("wrong_use", words)
    if exit_code == STOPPED:
        return Ending("stopped", reason)
    if code in INFEASIBLE:
        return Ending("infeasible", f"{INFEASIBLE[code]}: {reason}")
    if status.get("state") == "preempted":  # a rank that hung
        return Ending("died", reason)
    return Ending("failed", reason or f"exit code {exit_code} without a word")


def early_end(run: PlannedRun) -> str | None:
    """How the run ended by itself before its last step, if it did: it diverged, or had nothing to learn from."""
    status = run.status()
    return EARLY_ENDS.get(str(status.get("reason_code"))) if status.get("state") == "failed" else None


def is_data(run: PlannedRun) -> bool:
    """Whether the run has an outcome: it finished, diverged or gave up. One that the machine failed has none."""
    return run.state() == "finished" or early_end(run) is not None


def last_words(run: PlannedRun) -> str:
    """The last line that the run's latest process has printed."""
    text = run.log.read_text(encoding="utf-8", errors="replace") if run.log.is_file() else ""
    lines = text.rpartition(STARTED)[2].strip().splitlines()
    return lines[-1] if lines[STARTED in text :] else ""


def latest_metrics(folder: Path) -> dict[str, Any]:
    """The last whole line of metrics.jsonl; empty before there is one."""
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []  # the last is still being written
    try:
        return dict(json.loads(lines[-1])) if lines else {}
    except ValueError:
        return {}
