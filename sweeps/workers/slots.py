"""Places to run in: each takes one run at a time, as a process session of its own with its own devices and port."""

import os
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import HarnessError, free_port
from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import Attempt, start
from sweeps.workers.processes import uninterrupted
from sweeps.workers.sessions import GRACE_S, end_left_behind

POLL_S = 0.25


@dataclass(eq=False)
class Slot:
    """A share of this host: CPU threads, or GPUs by UUID."""

    gpus: tuple[str, ...] = ()
    attempt: Attempt | None = None

    def start(self, run: PlannedRun) -> Attempt:
        """Start or resume the run here."""
        devices = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {}
        with uninterrupted():
            self.attempt = attempt = start(run, {"MASTER_PORT": str(free_port()), **devices})
        return attempt

    def ask_to_stop(self) -> None:
        """Ask what runs here to save and end."""
        if self.attempt:
            self.attempt.process.ask_to_end()

    def clear(self, grace_s: float = 0.0) -> None:
        """Leave nothing running here. Raises HarnessError where a process cannot be killed."""
        if self.attempt is None:
            return
        self.attempt.process.end(grace_s)
        self.attempt = None


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def free_slots(study: Path, groups: Sequence[tuple[str, ...]]) -> list[Slot]:
    """A slot for each group of GPUs; for an empty group a share of the CPU.

    To be called under the study's lock: what a killed controller of it left running on this host is ended first.
    """
    end_left_behind(study)
    return [Slot(gpus) for gpus in groups]


def run_all(runs: Sequence[PlannedRun], slots: Sequence[Slot]) -> Generator[tuple[list[Attempt], list[Attempt]]]:
    """Run everything, one run to a slot; yields (running, just ended) every quarter of a second.

    However this ends, no process is left behind.
    """
    waiting, running = list(runs), dict[Attempt, Slot]()
    try:
        while waiting or running:
            for slot in [slot for slot in slots if slot not in running.values()][: len(waiting)]:
                running[slot.start(waiting.pop(0))] = slot
            ended = [attempt for attempt in running if attempt.process.poll() is not None]
            for attempt in ended:
                running.pop(attempt).clear()
            yield list(running), ended
            time.sleep(POLL_S if running else 0)
    finally:
        stop_all(slots)  # one may have begun what `running` does not have yet


def stop_all(slots: Sequence[Slot]) -> None:
    """Ask what runs in the slots to stop, all at once, wait, and kill what does not."""
    for slot in slots:
        slot.ask_to_stop()
    faults = []
    for slot in slots:
        try:
            slot.clear(GRACE_S)
        except HarnessError as fault:
            faults.append(fault)
    if faults:
        raise faults[0]
