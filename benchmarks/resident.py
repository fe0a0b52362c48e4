"""Resident memory of this process: what it holds now, and at most since it was last asked to forget."""

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Give freed memory back and begin the peak anew, where the system can.

    Else what is measured would fit, in part, into what was once used and freed.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # of glibc
        libc.malloc_trim(0)
    with suppress(OSError):
        FORGET.write_text("5", encoding="utf-8")


def peak_mib() -> float:
    """The most that was held at once.

    `ru_maxrss` where there is no /proc: on Linux a child's begins with what its parent held when it was started.
    """
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    lines = dict(line.split(":", 1) for line in STATUS.read_text(encoding="utf-8").splitlines())
    return int(lines["VmHWM"].split()[0]) / 2**10
