"""How a run's process ended, and what is to be done about it."""

import re
from dataclasses import dataclass
from typing import Literal

from harness import OUT_OF_MEMORY
from sweeps.slots import last_words
from sweeps.study import PlannedRun, read_json

Kind = Literal["finished", "stopped", "held", "died", "infeasible", "failed", "wrong_use", "disk_full"]

HELD = re.compile(r"is writing it: wait|its lock was lost|may be writing there")
EARLY_ENDS = {"expected finite numbers": "diverged", "gave up after ": "gave up"}  # by what the run said as it failed
WRONG_USE, STOPPED = 2, 75
SIGNALLED = 128  # plus the signal: how a launcher says that a rank was killed


@dataclass(frozen=True)
class Ending:
    """What happened.

    finished, stopped (by a signal; it can go on), held (another process writes the folder: later), died (killed: it can
    be tried again), infeasible (out of memory, diverged or gave up: these settings cannot be run), failed (it would
    fail again), wrong_use and disk_full (so would others).
    """

    kind: Kind
    reason: str | None = None


def ending_of(run: PlannedRun, code: int, out_of_memory: bool = False) -> Ending:
    """How the run ended; `out_of_memory`: the kernel killed something for memory meanwhile."""
    status = read_json(run.folder / "status.json") if run.state() != "unknown" else None
    state, reason = (status or {}).get("state"), str((status or {}).get("reason") or "")
    words = last_words(run)
    said = f"{reason} {words}"
    if state == "finished":  # written last: a process killed after it has done all
        return Ending("finished")
    if code > 0 and HELD.search(said):
        return Ending("held", words)
    if code == WRONG_USE:
        return Ending("wrong_use", words)
    if code == STOPPED:
        return Ending("stopped", reason or words)
    if "disk is full" in said:
        return Ending("disk_full", words)
    if OUT_OF_MEMORY.search(said) or (code in (-9, SIGNALLED + 9) and out_of_memory):
        return Ending("infeasible", f"out of memory: {reason or words or 'killed by the kernel'}")
    if code < 0 or code > SIGNALLED:
        return Ending("died", f"killed by signal {-code if code < 0 else code - SIGNALLED}")
    if state == "preempted":  # a rank that stood still
        return Ending("died", reason or words)
    for sign, name in EARLY_ENDS.items():
        if sign in said:
            return Ending("infeasible", f"{name}: {reason or words}")
    return Ending("failed", reason or words or f"exit code {code} without a word")


def early_end(run: PlannedRun) -> str | None:
    """How the run ended of itself before its last step, if it did: a result, which the same run would give again.

    Its numbers left the finite ones, or its first steps had nothing to learn from.
    """
    status = read_json(run.folder / "status.json") if run.state() == "failed" else None
    reason = str((status or {}).get("reason"))
    return next((name for sign, name in EARLY_ENDS.items() if sign in reason), None)


def is_data(run: PlannedRun) -> bool:
    """Whether the run has an outcome: it finished, diverged or gave up. One that the machine failed has none."""
    return run.state() == "finished" or early_end(run) is not None
