"""One writer per run folder: a lock that names its host, process and boot, and that a dead holder cannot keep."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from harness.console import say
from harness.errors import FolderHeld, UsageError
from harness.files import is_disk_full

LEASE_S = 60.0  # a holder on another host that has not renewed its claim for so long is taken for dead
UNWRITTEN_S = 2.0  # a lock that still names nobody after this was left by a process killed as it made it


def lock_path(folder: Path) -> Path:
    """The lock lies beside the folder: it is there before the folder is, and does not travel with a copy."""
    real = folder.resolve()
    return real.with_name(f".{real.name}.lock")


@contextmanager
def locked(folder: Path) -> Iterator[Callable[[], str | None]]:
    """Hold the folder for this process; gives a function that says why the hold was lost, or None.

    Raises UsageError while a living process holds it. A holder of this host that has died, or that ran before a reboot,
    is replaced at once; one of another host only when its lease has run out, which takes a minute to see.
    """
    lost: list[filelock.LeaseCompromise] = []
    path = lock_path(folder)
    lease = filelock.SoftFileLease(path, lease_duration=LEASE_S, on_compromise=lost.append)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        acquire(lease, folder)
    except filelock.LeaseSettingsMismatch as error:
        raise UsageError(f"{folder}: another version of this program writes it ({error}): stop that first") from None
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UsageError(f"expected a folder that can be written, got {str(folder)!r}: {error}") from None
    try:
        yield lambda: f"its lock was lost ({lost[0].reason})" if lost else None
    finally:
        lease.release()


def acquire(lease: filelock.SoftFileLease, folder: Path) -> None:
    """Take the lease now, or as soon as it is sure that its holder is dead."""
    if taken(lease, at_most_s=0.2):
        return
    owner = lease.owner
    if owner is None:
        break_unwritten(lease)
        if taken(lease, at_most_s=0.2):
            return
    elif owner.hostname != this_host():
        say(f"{folder} is held by process {owner.pid} on {owner.hostname}: waiting a minute to see whether it lives")
        if taken(lease, at_most_s=LEASE_S + 5):
            return
    holder = f"process {owner.pid} on {owner.hostname}" if owner else "another process"
    raise FolderHeld(f"{folder}: {holder} is writing it: wait for that one, or stop it first")


def break_unwritten(lease: filelock.SoftFileLease) -> None:
    """Remove a lock that names nobody and goes on doing so: its maker was killed before it could write."""
    path = Path(lease.lock_file)
    before = identity(path)
    time.sleep(UNWRITTEN_S)
    guard = path.with_name(f"{path.name}.break")
    with filelock.FileLock(guard):  # one that looks at the same time must not break the lock that the first then takes
        if before is not None and lease.owner is None and identity(path) == before:
            lease.force_break()
    guard.unlink(missing_ok=True)


def identity(path: Path) -> tuple[int, int] | None:
    """Which file stands there now, or None."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns


def this_host() -> str:
    """The name under which a lock made here names its host: with the container's process namespace, if any."""
    with tempfile.TemporaryDirectory() as folder, filelock.SoftFileLease(Path(folder) / "lock") as lease:
        return lease.owner.hostname if lease.owner else ""


def taken(lease: filelock.SoftFileLease, at_most_s: float) -> bool:
    """Whether the lease could be taken within the time."""
    try:
        lease.acquire(timeout=at_most_s, poll_interval=0.05)
    except filelock.Timeout:
        return False
    return True
