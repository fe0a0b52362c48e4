"""Starts `python -m harness` by forking a server that has already imported everything: milliseconds instead of seconds.

The server is multiprocessing's forkserver; it imports harness/preload.py and never runs anything itself, so no run
depends on the runs before it. Left out on purpose: GPUs, whose driver does not survive a fork, and systems other than
Linux; what cannot be forked is started from scratch.
"""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import IO

import setproctitle

from harness import run_command

# Threads that NumPy and pyarrow would start while being imported, before any fork; a run has no use for them.
NO_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
LOST, NO_SERVER = -9, 255  # our exit code for a run whose server was killed, and multiprocessing's
SERVER = multiprocessing.get_context("forkserver")


@dataclass(eq=False)
class Forked:
    """A forked run, with the interface of subprocess.Popen."""

    process: ForkServerProcess
    pid: int

    @property
    def sentinel(self) -> int:
        """A file descriptor that can be read once the process has ended."""
        return self.process.sentinel

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        code = self.process.exitcode
        return LOST if code == NO_SERVER else code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code. Raises subprocess.TimeoutExpired."""
        self.process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code


Process = subprocess.Popen[bytes] | Forked


def start_process(arguments: Sequence[str], output: IO[bytes], own: Mapping[str, str]) -> Process:
    """`python -m harness ARGUMENTS` with the environment `own`, appending to `output`, as leader of its own session."""
    forked = None if "CUDA_VISIBLE_DEVICES" in own or Path("/dev/nvidiactl").exists() else fork(arguments, output, own)
    return forked or subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=dict(own),
        start_new_session=True,
    )


def environment(threads: int, extra: Mapping[str, str]) -> dict[str, str]:
    """Environment of a harness process: never a rank of a job that the controller itself is part of."""
    own = {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1", **NO_THREADS}
    return {name: value for name, value in os.environ.items() if name != "RANK"} | own | dict(extra)


def fork(arguments: Sequence[str], output: IO[bytes], own: Mapping[str, str]) -> Forked | None:
    """The same, forked; None where that cannot be."""
    if sys.platform != "linux":
        return None
    began, beginning = SERVER.Pipe(duplex=False)
    command = (list(arguments), dict(own), str(Path.cwd()), f"/proc/{os.getpid()}/fd/{output.fileno()}")
    process = SERVER.Process(target=run_forked, args=(*command, beginning))
    try:
        with server_environment():
            SERVER.set_forkserver_preload(["harness.preload"])
            forkserver.ensure_running()
        process.start()
        beginning.close()
        began.poll(None)  # until the child has closed its end
    except (OSError, EOFError):
        return None
    finally:
        began.close()
    return Forked(process, process.pid or 0)


def run_forked(arguments: list[str], own: dict[str, str], folder: str, output: str, beginning: Connection) -> None:
    """Become the process that `python -m harness ARGUMENTS` would be, and exit with its code."""
    os.setsid()
    for number in ENDING:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    log = os.open(output, os.O_WRONLY | os.O_APPEND)
    for target in (1, 2):
        os.dup2(log, target)
    os.close(log)
    os.chdir(folder)
    words = ["python", "-m", "harness", *arguments]
    setproctitle.setproctitle(" ".join(words))  # before the environment moves in memory
    os.environ.clear()
    os.environ.update(own)
    import numpy as np

    from harness.__main__ import main

    random.seed()  # a run's draws do not depend on these, but no two processes should share them
    np.random.seed()
    sys.argv, sys.orig_argv = words[2:], words
    beginning.close()
    sys.exit(run_command(main, arguments, needs=("losses", "harness")))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back signals, so that no process is started without our knowing it; whichever thread they come to."""
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda came, _: arrived.append(came)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came in arrived:
            signal.raise_signal(came)


@contextmanager
def server_environment() -> Iterator[None]:
    """What the server must find in its environment while it imports."""
    before = dict(os.environ)
    os.environ.update(environment(1, {}))
    os.environ.pop("RANK", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
