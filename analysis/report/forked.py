"""Work in a process forked from this one, which so need not be sent what it works on."""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

FORKS = sys.platform == "linux"  # macOS has fork, and libraries that do not survive it
CORES = len(os.sched_getaffinity(0)) if FORKS else 1


class Forked:
    """The bytes that `work` gives, done beside this process; only when they are asked for where there is no fork.

    The work may write files and prints nothing. It uses no library whose threads this process has started.
    """

    def __init__(self, work: Callable[[], bytes]) -> None:
        self.work, self.child = work, 0
        if FORKS:
            self.reader, writer = os.pipe()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, where there are threads
                self.child = os.fork() or _do(work, writer)
            os.close(writer)

    def result(self) -> bytes:
        """Wait for it, once. What its process failed at is done here again, and raises here."""
        done, status = b"", 1
        if self.child:
            with os.fdopen(self.reader, "rb", closefd=False) as reader:
                done = reader.read()
            status = self._reap()
        work, self.work = self.work, bytes  # which may hold much
        return work() if status else done

    def close(self) -> None:
        """End its process, if it still works."""
        if self.child:
            with suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)
            self._reap()

    def _reap(self) -> int:
        os.close(self.reader)
        _, status = os.waitpid(self.child, 0)
        self.child = 0
        return status


def _do(work: Callable[[], bytes], writer: int) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent as well, and is its matter
        with os.fdopen(writer, "wb") as file:
            file.write(work())
        os._exit(0)
    finally:
        os._exit(1)
