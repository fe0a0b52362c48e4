"""How a run's process ended, and what is to be done about it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweeps.slots import last_words
from sweeps.study import PlannedRun, read_json

Kind = Literal["finished", "stopped", "held", "died", "infeasible", "failed", "wrong_use", "disk_full"]

MEMORY = re.compile(r"OutOfMemoryError|out of memory|MemoryError|[Uu]nable to allocate|[Cc]an(no|')t allocate memory")
HELD = re.compile(r"is writing it: wait|its lock was lost|may be writing there")
DIVERGED = "expected finite numbers"
WRONG_USE, STOPPED = 2, 75


@dataclass(frozen=True)
class Ending:
    """What happened.

    finished, stopped (by a signal; it can go on), held (another process writes the folder: later), died (killed: it can
    be tried again), infeasible (out of memory or diverged: these settings cannot be run), failed (it would fail again),
    wrong_use and disk_full (so would others).
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
    if MEMORY.search(said) or (code == -9 and out_of_memory):
        return Ending("infeasible", f"out of memory: {reason or words or 'killed by the kernel'}")
    if code < 0:
        return Ending("died", f"killed by signal {-code}")
    if DIVERGED in said:
        return Ending("infeasible", f"diverged: {reason or words}")
    return Ending("failed", reason or words or f"exit code {code} without a word")


def has_diverged(run: PlannedRun) -> bool:
    """Whether it failed because its numbers left the finite ones: a result, which the same run would give again."""
    status = read_json(run.folder / "status.json") if run.state() == "failed" else None
    return DIVERGED in str((status or {}).get("reason"))


def is_data(run: PlannedRun) -> bool:
    """Whether the run has an outcome: it finished or diverged. One that the machine failed has none."""
    return run.state() == "finished" or has_diverged(run)


def memory_kills() -> int:
    """How often the kernel has killed a process of this control group for memory; 0 where that is not told."""
    group = Path("/proc/self/cgroup")
    lines = group.read_text(encoding="utf-8").splitlines() if group.is_file() else []
    own = [line.partition("::")[2] for line in lines if line.startswith("0::")]
    for events in [Path(f"/sys/fs/cgroup{path}/memory.events") for path in [*own, ""]]:
        if events.is_file():
            fields = dict(line.split() for line in events.read_text(encoding="ascii").splitlines())
            return int(fields.get("oom_kill", 0))
    return 0
