"""Places to run in: each takes one run at a time, as a process session of its own with its own devices and port."""

import os
import select
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from harness import HarnessError, UsageError, free_port, memory_kills, say
from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import Ending, ending_of, start
from sweeps.workers.sessions import GRACE_S, Session, end_left_behind, uninterrupted

POLL_S = 0.25
MOST_DEATHS = 3  # of a run's processes, after which it is not started again
HELD_S = 20.0  # before a run is tried again whose folder another process holds
Place = tuple[str, ...]  # GPUs as CUDA_VISIBLE_DEVICES names them; empty: a share of the CPU


class Pool(AbstractContextManager["Pool"]):
    """What is at work, at most one run in each place; a run that a signal ended is started again.

    As a context it leaves no process behind, however it ends. To be made under the study's lock: what a killed
    controller of it left running on this host is ended first.
    """

    def __init__(self, study: Path, places: Sequence[Place]) -> None:
        end_left_behind(study)
        self.free, self.size = list(places), len(places)
        self.running = dict[PlannedRun, tuple[Session, Place]]()
        self.again = dict[PlannedRun, float]()  # runs that will be started again, and when, by the clock
        self.deaths = Counter[PlannedRun]()
        self.kills = memory_kills()

    def start(self, run: PlannedRun) -> Session:
        """Start or resume the run in the first free place."""
        place = self.free.pop(0)
        devices = {"CUDA_VISIBLE_DEVICES": ",".join(place)} if place else {}
        with uninterrupted():
            session = start(run, {"MASTER_PORT": str(free_port()), **devices})
            self.running[run] = session, place
        return session

    def ended(self) -> list[tuple[PlannedRun, Ending]]:
        """The runs that have ended since the last look, of whose processes nothing is left; what died goes on."""
        polled = [(run, session.poll()) for run, (session, _) in self.running.items()]
        ended, now = [], time.monotonic()
        for run, code in ((run, code) for run, code in polled if code is not None):
            session, place = self.running.pop(run)
            session.end()
            self.free.append(place)
            ending = self.final(run, ending_of(run, code))
            ended += [(run, ending)] if ending else []
        for run in [run for run, due in self.again.items() if now >= due][: len(self.free)]:
            del self.again[run]
            if run.state() == "finished":  # by the process that held it
                ended.append((run, Ending("finished")))
            else:
                self.start(run)
        return ended

    def final(self, run: PlannedRun, ending: Ending) -> Ending | None:
        """The ending, or None where the run is to be started again."""
        if ending.kind == "held":
            say(f"{run.name}: {ending.reason}; tried again in {HELD_S:.0f} s")
            self.again[run] = time.monotonic() + HELD_S
            return None
        if ending.kind != "died":
            return ending
        self.deaths[run] += 1
        if self.deaths[run] <= MOST_DEATHS:
            words = f"started again at most {MOST_DEATHS} times, this was {self.deaths[run]}"
            say(f"{run.name}: {ending.reason}; {words}")
            self.again[run] = time.monotonic()
            return None
        if memory_kills() > self.kills:
            return Ending("infeasible", f"out of memory: {ending.reason}")
        return Ending("failed", f"its processes died {self.deaths[run]} times: {ending.reason}")

    def rest(self) -> None:
        """Return when a run ends, or after a quarter of a second."""
        processes = [session.process for session, _ in self.running.values()]
        select.select([process.sentinel for process in processes if process], [], [], POLL_S)

    def stop(self, runs: Sequence[PlannedRun]) -> None:
        """Ask these runs to stop at once, wait, and kill what does not. Raises HarnessError where that cannot be."""
        with ExitStack() as stack:  # each is ended, whatever becomes of the others
            self.again = {run: due for run, due in self.again.items() if run not in runs}
            for run in [run for run in runs if run in self.running]:
                session, place = self.running.pop(run)
                session.ask_to_end()
                self.free.append(place)
                stack.callback(session.end, GRACE_S)

    def __exit__(self, *_: object) -> None:
        """However it ends, nothing is left running."""
        self.stop([*self.running, *self.again])


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
