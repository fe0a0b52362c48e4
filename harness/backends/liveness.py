"""What each rank is doing and since when, as files that the launcher reads: a rank that hangs cannot say so itself."""

import ctypes
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LIVENESS = "HARNESS_LIVENESS"  # the environment variable that names the folder; without it nothing is written
STOP = "stop"  # the file there that names the signal by which the run was asked to stop


@dataclass
class Beat:
    """What a rank is at. `count` grows with everything it does; it waits for the others where `is_waiting`."""

    phase: str = "start"
    count: int = 0
    is_waiting: bool = False


own = Beat()


def beat(phase: str | None = None) -> None:
    """Say that this rank goes on: with the phase that it begins, or with the one it is in."""
    own.phase = phase or own.phase
    own.count += 1
    write()


@contextmanager
def waiting() -> Iterator[None]:
    """For the other ranks: what stands still meanwhile is somebody else."""
    own.is_waiting = True
    write()
    yield
    own.is_waiting = False
    beat()


def write() -> None:
    """Replace this rank's file."""
    folder = os.environ.get(LIVENESS)
    if folder is None:
        return
    path = Path(folder) / f"rank-{os.environ.get('RANK', '0')}.json"
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(own.__dict__), encoding="utf-8")
    beside.replace(path)


def asked_to_stop() -> str | None:
    """The signal that the launcher has heard, or None."""
    path = Path(os.environ.get(LIVENESS, "")) / STOP
    return path.read_text(encoding="utf-8") if path.is_file() else None


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it dies, however that happens (Linux)."""
    pr_set_pdeathsig, parent = 1, os.getppid()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def read_beat(folder: Path, rank: int) -> Beat:
    """The rank's last word; that of one that has just been started where there is none yet."""
    try:
        return Beat(**json.loads((folder / f"rank-{rank}.json").read_bytes()))
    except (OSError, ValueError):
        return Beat()
