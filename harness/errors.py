"""What can go wrong, as a tree.

HarnessError            exit code 1: a run failed
+-- UsageError          exit code 2: wrong use; nothing was started, nothing written
+-- Stopped             exit code 75: ended by a signal at a step boundary; can be resumed
+-- RanksFailed         a rank failed, was killed or hung: the run's exit code is that rank's
+-- PeerLost            exit code 76, of a rank alone: another rank went away
+-- LockLost            another process took the run's folder: nothing more was written
+-- GaveUp              the first steps had nothing to learn from
+-- NonFinite           harness.algorithm.nonfinite: a loss, gradient or weight was infinite or not a number
+-- FolderFault         harness.run.folder: a folder does not hold what was written

A message says what was expected, what came, and what to do, in one line.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from harness.memory import is_out_of_memory


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
    """A rank failed, was killed or hung; `is_final` where it would fail again."""

    def __init__(self, message: str, exit_code: int, is_final: bool = False) -> None:
        super().__init__(message)
        self.exit_code, self.is_final = exit_code, is_final


class PeerLost(HarnessError):
    """Another rank went away or hung: this one does not know why, so it writes nothing."""

    exit_code = 76


class GaveUp(HarnessError):
    """No step so far had anything to learn from: the weights are as they were."""


class LockLost(HarnessError):
    """Another process took the run's folder while this one stood still."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, with those it announces ("one of:"), or its name; 300 characters."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    count = next((number for number, line in enumerate(lines, 1) if not line.rstrip().endswith(":")), len(lines))
    return " ".join(" ".join(lines[:count]).split())[:300]


@contextmanager
def as_usage_error(what: str) -> Iterator[None]:
    """Turn any error of third-party code into a one-line UsageError: `what`, then the cause.

    Errors of our own, of memory and of the disk pass through.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or getattr(error, "errno", None) in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"{what}: {first_line(error)}") from None
