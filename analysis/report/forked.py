"""Work in a process forked from this one, which so need not be sent what it works on."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

FORKS = sys.platform == "linux"  # macOS has fork, and libraries that do not survive it
CORES = len(os.sched_getaffinity(0)) if FORKS else 1


class Forked:
    """The bytes that `work` gives, done beside this process; only when they are asked for where there is no fork.

    The work may write files, and prints nothing.
    """

    def __init__(self, work: Callable[[], bytes]) -> None:
        self.work, self.done, self.child = work, b"", 0
        if FORKS:
            self.reader, writer = os.pipe()
            self.child = os.fork() or _do(work, writer)
            os.close(writer)

    def result(self) -> bytes:
        """Wait for it. What its process failed at is done here again, and raises here."""
        if self.child:
            with os.fdopen(self.reader, "rb") as reader:
                self.done = reader.read()
            _, status = os.waitpid(self.child, 0)
            self.child, self.done = 0, b"" if status else self.done
        self.done = self.done or self.work()
        return self.done


def _do(work: Callable[[], bytes], writer: int) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent as well, and is its matter
        with os.fdopen(writer, "wb") as file:
            file.write(work())
        os._exit(0)
    finally:
        os._exit(1)
