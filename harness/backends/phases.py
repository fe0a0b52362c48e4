"""Tracks what this rank is doing: failures are reported with the phase, and a rank that hangs exits with its stacks."""

import ctypes
import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from harness.errors import REASON_FILE

LAUNCHER = "HARNESS_LAUNCHER"  # environment variable: pid of the process that started the ranks (`--nproc`)
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # environment variable set by torchrun: a path in a folder for each rank
PHASE, REASON = "phase", "reason"  # files in that folder
START_DEADLINE_S = 600.0  # minimum deadline of the start phase, in which a large model may be read from a slow disk


@dataclass
class State:
    phase: str = "start"
    deadline_s: float | None = None  # None: this process is not a rank, so nothing is watched or written


own = State()


def be_a_rank(deadline_s: float) -> None:
    """Make this process exit when its launcher dies, and with code 1 after `deadline_s` seconds without progress."""
    own.deadline_s = deadline_s
    if ERROR_FILE in os.environ:
        os.environ[REASON_FILE] = str(Path(os.environ[ERROR_FILE]).with_name(REASON))
    die_with_launcher()
    faulthandler.enable()
    enter("start")


def is_a_rank() -> bool:
    return own.deadline_s is not None


def exit_at_once(code: int) -> NoReturn:
    """Exit without the interpreter's teardown.

    vLLM's would destroy the process group, which on NCCL waits for the other ranks, while they wait in a collective.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def enter(phase: str) -> None:
    """Begin a phase, such as rollout or update, and reset the deadline."""
    own.phase = phase
    if own.deadline_s and ERROR_FILE in os.environ:
        file = Path(os.environ[ERROR_FILE]).with_name(PHASE)
        beside = file.with_suffix(".tmp")
        beside.write_text(phase, encoding="utf-8")
        beside.replace(file)
    progress()


def progress() -> None:
    """Reset the deadline: this rank is not stuck."""
    if own.deadline_s:
        limit = max(START_DEADLINE_S, own.deadline_s) if own.phase == "start" else own.deadline_s
        faulthandler.dump_traceback_later(limit, exit=True)


@contextmanager
def waiting() -> Iterator[None]:
    """Suspend the deadline while this rank waits for others in a collective, which has its own timeout."""
    if own.deadline_s:
        faulthandler.cancel_dump_traceback_later()
    yield
    progress()


def die_with_launcher() -> None:
    """Ask the kernel to kill this process when its parent dies for whatever reason (Linux only)."""
    pr_set_pdeathsig, parent = 1, int(os.environ.get(LAUNCHER, os.getppid()))
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before prctl was called
            os.kill(os.getpid(), signal.SIGKILL)
