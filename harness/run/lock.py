"""A lock per run folder, so that it has one writer, also on network file systems. A dead process loses its lock."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from harness.backends.ranks import ALONE, Ranks
from harness.console import say
from harness.errors import FolderHeld, LockLost, UsageError
from harness.files import is_disk_full

StopRequested = Callable[[], str | None]

LEASE_S = 60.0  # a holder on another host is considered dead if it has not renewed its lock for this long
TORN_S = 5.0  # how long to wait for filelock to replace a damaged lock, which takes it two seconds


def lock_path(folder: Path) -> Path:
    """The lock file, next to the folder: it can exist before the folder does, and is not copied with it."""
    real = folder.resolve()
    return real.with_name(f".{real.name}.lock")


@contextmanager
def locked(folder: Path, requested: StopRequested = lambda: None, ranks: Ranks = ALONE) -> Iterator[StopRequested]:
    """Hold the folder's lock (first rank only). Yields `requested`, wrapped to raise LockLost if the lock is lost.

    Raises FolderHeld if another live process holds the lock. If the holder was on this host and is dead, or was started
    before a reboot, its lock is replaced at once; a lock from another host is replaced when its lease has expired.
    """
    if not ranks.is_first:
        yield requested
        return
    path = lock_path(folder)
    lease = filelock.SoftFileLease(path, lease_duration=LEASE_S, poll_interval=0.05)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lease.acquire(timeout=0.2)
        except filelock.Timeout:
            acquire_late(lease, folder)
    except filelock.LeaseSettingsMismatch as error:
        raise UsageError(
            f"{folder}: another version of this program is writing to it ({error}): stop that process first"
        ) from None
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UsageError(f"expected a folder that can be written, got {str(folder)!r}: {error}") from None

    def stop_requested() -> str | None:
        if lost := lease.compromise:
            raise LockLost(
                f"{folder}: its lock was lost ({lost.reason}): another process may be writing there, so this one ends"
            )
        return requested()

    try:
        yield stop_requested
    finally:
        lease.release()


def acquire_late(lease: filelock.SoftFileLease, folder: Path) -> None:
    """Take the lease that another has as soon as its holder is known to be dead. Raises FolderHeld if it is alive."""
    owner, timeout_s = lease.owner, 0.0
    if owner is None:
        timeout_s = TORN_S
        # a process killed while it made the lock left it damaged or empty; filelock never replaces an empty one
        with Path(lease.lock_file).open("ab") as file:
            file.write(b"" if file.tell() else b"\n")
    elif owner.hostname != this_host():
        timeout_s = LEASE_S + 5
        say(f"{folder} is held by process {owner.pid} on {owner.hostname}: waiting a minute to see whether it is alive")
    try:
        lease.acquire(timeout=timeout_s)
    except filelock.Timeout:
        holder = f"process {owner.pid} on {owner.hostname}" if owner else "another process"
        raise FolderHeld(f"{folder}: {holder} is writing to it: wait until it has ended, or stop it first") from None


def this_host() -> str:
    """The name of this host in locks; it includes the container's process namespace, if any."""
    with tempfile.TemporaryDirectory() as folder, filelock.SoftFileLease(Path(folder) / "lock") as lease:
        return lease.owner.hostname if lease.owner else ""
