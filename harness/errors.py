"""The tree of errors, each with the command's exit code (1 unless given) and the reason code for status.json.

HarnessError            1, failed: a run failed
+-- UsageError          2, wrong_use: nothing was started, nothing written
|   +-- FolderHeld      2, held: another process is writing to the run's folder
+-- Stopped             75, stopped: ended by a signal at a step boundary; can be resumed
+-- RanksFailed         rank_failed: a rank failed, was killed or hung; has that rank's exit code and reason if known
+-- PeerLost            76, rank_failed: another rank is gone; the launcher reports which one and why
+-- LockLost            held: another process took over the run's folder; nothing more was written
+-- GaveUp              gave_up: the first steps had nothing to learn from
+-- Diverged            diverged: a number became infinite or NaN
|   +-- NonFinite       harness.algorithm.nonfinite: names the loss, gradient or weight
+-- OutOfMemory         out_of_memory
+-- DiskFull            disk_full: can be resumed once there is room
+-- FolderFault         harness.run.folder: a folder's content differs from what was written there

A message says in one line what was expected, what was found, and what to do.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|out of memory|MemoryError|[Uu]nable to allocate|[Cc]an(no|')t allocate memory"
)
MEMORY_ADVICE = (
    "lower --micro_batch_size or --micro_batch_tokens, --max_response_tokens or --engine_memory, or use "
    "--gradient_checkpointing true, --lora_rank 16, a higher --zero_stage or --offload"
)

INTERRUPTED = "interrupted within a step"
REASON_FILE = "FIPO_HARNESS_REASON_FILE"  # environment variable: the file to which a process writes its reason code


class HarnessError(Exception):
    """A run failed."""

    exit_code = 1
    code = "failed"


class UsageError(HarnessError):
    exit_code = 2
    code = "wrong_use"


class FolderHeld(UsageError):
    code = "held"


class Stopped(HarnessError):
    exit_code = 75
    code = "stopped"


class RanksFailed(HarnessError):
    """A rank failed, was killed or hung. `is_final`: it would fail again if the run were resumed."""

    def __init__(self, message: str, exit_code: int, code: str = "rank_failed", is_final: bool = False) -> None:
        super().__init__(message)
        self.exit_code, self.code, self.is_final = exit_code, code, is_final


class PeerLost(HarnessError):
    """Another rank is gone or hangs. This rank does not know why, so it does not write a status."""

    exit_code = 76
    code = "rank_failed"


class GaveUp(HarnessError):
    code = "gave_up"


class Diverged(HarnessError):
    code = "diverged"


class OutOfMemory(HarnessError):
    code = "out_of_memory"


class DiskFull(HarnessError):
    code = "disk_full"


class LockLost(HarnessError):
    code = "held"


def note_reason(code: str) -> None:
    """Write the reason code to REASON_FILE, if set: a process that fails early has no run folder to write it to."""
    if path := os.environ.get(REASON_FILE):
        with suppress(OSError):  # overwrites in place: an existing file needs no new space on a full disk
            file = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(file, code.ljust(16).encode())
            os.close(file)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 300 characters; the error's type if the message is empty.

    A line that ends with a colon is joined with the next one.
    """
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    count = next((number for number, line in enumerate(lines, 1) if not line.rstrip().endswith(":")), len(lines))
    return " ".join(" ".join(lines[:count]).split())[:300]


@contextmanager
def as_usage_error(what: str) -> Iterator[None]:
    """Turn any error of third-party code into a one-line UsageError: `what`, then the cause.

    HarnessErrors, out-of-memory errors and disk errors pass through unchanged.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or getattr(error, "errno", None) in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"{what}: {first_line(error)}") from None


@contextmanager
def before_start() -> Iterator[None]:
    """Inside, what is tried before a run begins: any failure is wrong use, since nothing has started."""
    try:
        yield
    except UsageError:
        raise
    except HarnessError as error:
        raise UsageError(str(error)) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host ran out of memory."""
    return isinstance(error, MemoryError) or bool(OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"))


def memory_kills() -> int:
    """How many processes in this control group the kernel has killed because memory ran out; 0 if unknown."""
    group = Path("/proc/self/cgroup")
    lines = group.read_text(encoding="utf-8").splitlines() if group.is_file() else []
    own = [line.partition("::")[2] for line in lines if line.startswith("0::")]
    for events in [Path(f"/sys/fs/cgroup{path}/memory.events") for path in [*own, ""]]:
        if events.is_file():
            fields = dict(line.split() for line in events.read_text(encoding="ascii").splitlines())
            return int(fields.get("oom_kill", 0))
    return 0
