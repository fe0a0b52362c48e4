"""How a run's process ended, and what is to be done about it."""

from dataclasses import dataclass
from typing import Literal

from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import last_words

Kind = Literal["finished", "stopped", "held", "died", "infeasible", "failed", "wrong_use", "disk_full"]

WRONG_USE, STOPPED = 2, 75
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

    kind: Kind
    reason: str | None = None


def ending_of(run: PlannedRun, exit_code: int, out_of_memory: bool = False) -> Ending:
    """How the run ended; `out_of_memory`: the kernel killed something for memory meanwhile."""
    status = run.status()
    words = last_words(run)
    reason = str(status.get("reason") or "") or words
    if status.get("state") == "finished":  # written last: a process killed after it has done all
        return Ending("finished")
    code = run.reason_code() or status.get("reason_code")
    if code == "out_of_memory" or (exit_code in (-9, SIGNALLED + 9) and out_of_memory):
        return Ending("infeasible", f"out of memory: {reason or 'killed by the kernel'}")
    if exit_code < 0 or exit_code > SIGNALLED:
        return Ending("died", f"killed by signal {-exit_code if exit_code < 0 else exit_code - SIGNALLED}")
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
