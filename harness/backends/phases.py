"""What this rank is doing: a dead one is named with its phase, a hung one exits with its stacks on stderr."""

import ctypes
import faulthandler
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import REASON_FILE

LAUNCHER = "HARNESS_LAUNCHER"  # names the process that `--nproc` started the ranks from
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # torchrun gives each rank a path in a folder of its own
PHASE, REASON = "phase", "reason"  # files in that folder
START_DEADLINE_S = 600.0  # until a model of many GB has been read from a slow disk


@dataclass
class State:
    phase: str = "start"
    deadline_s: float | None = None  # None: this process is no rank, so nothing is watched or written


own = State()


def be_a_rank(deadline_s: float) -> None:
    """From here on, die with the launcher, and exit with code 1 after `deadline_s` seconds without progress."""
    own.deadline_s = deadline_s
    if ERROR_FILE in os.environ:
        os.environ[REASON_FILE] = str(Path(os.environ[ERROR_FILE]).with_name(REASON))
    die_with_launcher()
    faulthandler.enable()
    enter("start")


def enter(phase: str) -> None:
    """Begin a phase, such as rollout or update."""
    own.phase = phase
    if own.deadline_s and ERROR_FILE in os.environ:
        Path(os.environ[ERROR_FILE]).with_name(PHASE).write_text(phase, encoding="utf-8")
    progress()


def progress() -> None:
    """Note that this rank is not stuck: its deadline starts again."""
    if own.deadline_s:
        limit = max(START_DEADLINE_S, own.deadline_s) if own.phase == "start" else own.deadline_s
        faulthandler.dump_traceback_later(limit, exit=True)


@contextmanager
def waiting() -> Iterator[None]:
    """While this rank waits for the others it is not the one that hangs; the collective has a timeout of its own."""
    if own.deadline_s:
        faulthandler.cancel_dump_traceback_later()
    yield
    progress()


def die_with_launcher() -> None:
    """Have the kernel kill this process when its parent dies, however that happens (Linux)."""
    pr_set_pdeathsig, parent = 1, int(os.environ.get(LAUNCHER, os.getppid()))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was asked
            os.kill(os.getpid(), signal.SIGKILL)
