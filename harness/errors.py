"""What can go wrong, as a tree.

HarnessError            exit code 1: a run failed
+-- UsageError          exit code 2: wrong use; nothing was started, nothing written
+-- Stopped             exit code 75: ended by a signal at a step boundary; can be resumed
+-- RanksFailed         the processes of a run did not all finish
+-- PeerLost              another rank went away; its launcher says which and why
+-- LockLost            another process took the run's folder: nothing more was written
+-- NonFinite           harness.nonfinite: a loss, gradient or weight was infinite or not a number
+-- FolderFault         harness.manifest: a folder does not hold what was written

A message says what was expected, what came, and what to do, in one line.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class HarnessError(Exception):
    """A run failed."""

    exit_code = 1


class UsageError(HarnessError):
    """A flag, file or value is not what it must be. Raised before anything starts."""

    exit_code = 2


class Stopped(HarnessError):
    """A signal asked the run to end."""

    exit_code = 75


class RanksFailed(HarnessError):
    """A process of a run failed, was killed or hung; its exit code is the run's. Without words where it has spoken."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PeerLost(HarnessError):
    """Another rank went away or stood still: nothing can be said or written here of whose fault it is."""


class LockLost(HarnessError):
    """Another process took the run's folder while this one stood still."""


def first_line(error: BaseException) -> str:
    """The first sentence of what an error says, 300 characters at most, or its name.

    That is its first line, and where that only announces the next ("one of:"), as many more as it takes.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    count = next((number for number, line in enumerate(lines, 1) if not line.rstrip().endswith(":")), len(lines))
    return " ".join(" ".join(lines[:count]).split())[:300]


@contextmanager
def as_usage_error(what: str) -> Iterator[None]:
    """Around code of others that raises whatever it likes of files that are not what they should be.

    Raises UsageError, `what` and the cause in one line; memory that ran out and a failing disk stay what they are.
    """
    try:
        yield
    except (HarnessError, MemoryError):
        raise
    except Exception as error:
        if getattr(error, "errno", None) in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"{what}: {first_line(error)}") from None
