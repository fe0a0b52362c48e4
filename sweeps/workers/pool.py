"""Places to run in: each takes one run at a time, as a process session of its own with its own devices and port."""

import os
import select
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from harness import HarnessError, UsageError, free_port
from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import Attempt, start
from sweeps.workers.processes import Forked, uninterrupted
from sweeps.workers.sessions import GRACE_S, end_left_behind

POLL_S = 0.25
Place = tuple[str, ...]  # GPUs as CUDA_VISIBLE_DEVICES names them; empty: a share of the CPU


class Pool:
    """What is at work, at most one run in each place. As a context it leaves no process behind, however it ends.

    To be made under the study's lock: what a killed controller of it left running on this host is ended first.
    """

    def __init__(self, study: Path, places: Sequence[Place]) -> None:
        end_left_behind(study)
        self.free, self.size = list(places), len(places)
        self.running = dict[Attempt, Place]()

    def start(self, run: PlannedRun) -> Attempt:
        """Start or resume the run in the first free place."""
        place = self.free.pop(0)
        devices = {"CUDA_VISIBLE_DEVICES": ",".join(place)} if place else {}
        with uninterrupted():
            attempt = start(run, {"MASTER_PORT": str(free_port()), **devices})
            self.running[attempt] = place
        return attempt

    def ended(self) -> list[Attempt]:
        """The attempts whose processes have ended since the last look; nothing of them is left."""
        ended = [attempt for attempt in self.running if attempt.session.poll() is not None]
        for attempt in ended:
            attempt.session.end()
            self.free.append(self.running.pop(attempt))
        return ended

    def rest(self) -> None:
        """Return when a forked run ends, or after a quarter of a second."""
        processes = [attempt.session.process for attempt in self.running]
        select.select([one.sentinel for one in processes if isinstance(one, Forked)], [], [], POLL_S)

    def stop(self) -> None:
        """Ask all to stop at once, wait, and kill what does not. Raises HarnessError where that cannot be."""
        with ExitStack() as stack:  # each is ended, whatever becomes of the others
            while self.running:
                attempt, place = self.running.popitem()
                attempt.session.ask_to_end()
                self.free.append(place)
                stack.callback(attempt.session.end, GRACE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """However it ends, nothing is left running."""
        self.stop()


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def gpu_places(size: int, most: int = 0) -> list[Place]:
    """Places of `size` GPUs each, at most so many (0: all). Raises UsageError where there are too few for one."""
    gpus = visible_gpus()
    if len(gpus) < size:
        raise UsageError(
            f"--gpus_per_trial {size}: expected at least so many GPUs that CUDA_VISIBLE_DEVICES names or nvidia-smi "
            f"lists, got {len(gpus)}"
        )
    places = [tuple(gpus[start : start + size]) for start in range(0, len(gpus) - size + 1, size)]
    return places[: most or None]


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES names, else the UUIDs of all GPUs; none where nvidia-smi is missing or fails."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    command = [program, "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        raise HarnessError("nvidia-smi did not answer in a minute: the driver hangs, reboot the host") from None
    return done.stdout.split() if done.returncode == 0 else []
