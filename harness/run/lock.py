"""One writer per run folder, on network file systems too: a lock that names its holder and that a dead one loses."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from harness.console import say
from harness.errors import FolderHeld, UsageError
from harness.files import is_disk_full

LEASE_S = 60.0  # a holder on another host that has not renewed its lock for this long is taken for dead
TORN_S = 5.0  # filelock replaces a damaged lock after two seconds


def lock_path(folder: Path) -> Path:
    """The lock lies beside the folder: it can be there before the folder is, and is not copied with it."""
    real = folder.resolve()
    return real.with_name(f".{real.name}.lock")


@contextmanager
def locked(folder: Path) -> Iterator[Callable[[], str | None]]:
    """Hold the folder for this process; yields a function that says why the lock was lost, or None.

    Raises UsageError while a living process holds it. A dead holder on this host, or one of before a reboot, is
    replaced at once, one on another host after its lease has run out.
    """
    path = lock_path(folder)
    lease = filelock.SoftFileLease(path, lease_duration=LEASE_S)
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
        yield lambda: f"its lock was lost ({lease.compromise.reason})" if lease.compromise else None
    finally:
        lease.release()


def acquire(lease: filelock.SoftFileLease, folder: Path) -> None:
    """Take the lease now, or as soon as its holder is known to be dead."""
    if taken(lease, timeout_s=0.2):
        return
    owner, timeout_s = lease.owner, 0.0
    if owner is None:
        timeout_s = TORN_S
        with Path(lease.lock_file).open("ab") as file:  # a process killed as it made the lock left it torn or empty:
            file.write(b"" if file.tell() else b"\n")  # the latter is never replaced
    elif owner.hostname != this_host():
        timeout_s = LEASE_S + 5
        say(f"{folder} is held by process {owner.pid} on {owner.hostname}: waiting a minute to see whether it lives")
    if not taken(lease, timeout_s):
        holder = f"process {owner.pid} on {owner.hostname}" if owner else "another process"
        raise FolderHeld(f"{folder}: {holder} is writing it: wait for that one, or stop it first")


def this_host() -> str:
    """This host as locks name it: with the container's process namespace, if any."""
    with tempfile.TemporaryDirectory() as folder, filelock.SoftFileLease(Path(folder) / "lock") as lease:
        return lease.owner.hostname if lease.owner else ""


def taken(lease: filelock.SoftFileLease, timeout_s: float) -> bool:
    """Whether the lease could be taken within the time."""
    try:
        lease.acquire(timeout=timeout_s, poll_interval=0.05)
    except filelock.Timeout:
        return False
    return True
