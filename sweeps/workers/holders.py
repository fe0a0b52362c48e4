"""Who holds something: a process, named so that another one can tell whether it still lives."""

import os
import platform
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from harness import HarnessError

KILLED_S = 30.0  # for killed processes to be gone


@dataclass(frozen=True)
class Holder:
    """A process of a host, one boot of it and one namespace of processes. `started`: since process ids are reused."""

    host: str
    boot: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "Holder":
        """A living process of this host. Raises psutil.NoSuchProcess where there is none."""
        return cls(platform.node(), this_boot(), pid, start_of(pid))

    @classmethod
    def this(cls) -> "Holder":
        """This very process."""
        return cls.of(os.getpid())

    @classmethod
    def read(cls, content: object) -> "Holder | None":
        """One that was written down, or None where that is not what it says."""
        try:
            return cls(**content) if isinstance(content, Mapping) else None
        except TypeError:
            return None

    def written(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @property
    def is_here(self) -> bool:
        """Whether it ran on this host since its last boot, so that `lives` knows."""
        return (self.host, self.boot) == (platform.node(), this_boot())

    def lives(self) -> bool:
        """Whether the process goes on; one of an earlier boot of this host does not. Ask only of this host."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            return start_of(self.pid) == self.started and bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


@cache
def this_boot() -> str:
    """Identity of the host's present boot, and of the container's namespace of processes, if it has one."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if not boot.is_file():
        return str(int(psutil.boot_time()))
    return f"{boot.read_text(encoding='ascii').strip()} {namespace.readlink() if namespace.is_symlink() else ''}"


def start_of(pid: int) -> float:
    """When the process started: in ticks since the boot, which no change of the clock moves. Raises NoSuchProcess."""
    path = Path(f"/proc/{pid}/stat")
    if not path.parent.parent.joinpath("self").exists():
        return float(psutil.Process(pid).create_time())
    try:
        return float(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])
    except OSError:
        raise psutil.NoSuchProcess(pid) from None


def session_members(session: int) -> list[psutil.Process]:
    """The living processes of a session, whatever became of the one that began it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def ask_to_end(runner: Holder) -> None:
    """SIGTERM to the process and those of its group, if it lives."""
    if runner.lives():
        with suppress(ProcessLookupError):
            os.killpg(runner.pid, signal.SIGTERM)


def end_session(runner: Holder, grace_s: float = 0.0) -> None:
    """See that every process of the session that the runner began ends: of itself within the grace, else killed.

    A session outlives the process that began it, whose number is free for another only when the session has ended.
    Raises HarnessError where the kernel does not let go of one.
    """
    if is_another(runner):
        return
    deadline = time.monotonic() + grace_s
    while members := session_members(runner.pid):
        if time.monotonic() > deadline + KILLED_S:
            raise HarnessError(f"processes {[process.pid for process in members]} cannot be killed: reboot the host")
        if time.monotonic() >= deadline:
            for process in members:
                with suppress(psutil.Error):
                    process.kill()
        time.sleep(0.05)


def is_another(runner: Holder) -> bool:
    """Whether the runner's number is now another process's."""
    try:
        return start_of(runner.pid) != runner.started
    except psutil.NoSuchProcess:
        return False
