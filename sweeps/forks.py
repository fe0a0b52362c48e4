"""Harness processes that need not import anything: forked by one that has (harness/forks.py)."""

import atexit
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

from sweeps.holders import Holder

POLL_S = 0.01
# Threads that NumPy and pyarrow would start as they are imported, before any fork; of no use to a run.
NO_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
LOST = -9  # the exit code of a process whose parent was killed before it could tell


class Process(Protocol):
    """What is used of a process that was started: of subprocess.Popen, and of a fork."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Its exit code, below 0 for a signal, or None while it goes on."""

    def wait(self, timeout: float | None = None) -> int:
        """The same when it has ended. Raises subprocess.TimeoutExpired."""


@dataclass(eq=False)
class Forked:
    """A process that was forked elsewhere."""

    pid: int
    forks: "Forks"
    holder: Holder | None  # None where it had ended before anybody could look
    returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, as its parent tells it."""
        self.forks.listen()
        if self.returncode is None and self.forks.is_gone and not (self.holder and self.holder.lives()):
            self.returncode = LOST
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Look every now and then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(POLL_S)
        return code


@dataclass
class Forks:
    """The process that forks, and those that it has forked."""

    threads: int
    children: dict[int, Forked] = field(default_factory=dict)
    is_gone: bool = False

    def __post_init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.forks", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment(self.threads, {}),
            start_new_session=True,
        )
        theirs.close()
        self.is_gone = self.received() is None

    def start(self, arguments: Sequence[str], output: Any, extra: Mapping[str, str]) -> Forked | None:
        """A process for the command; None where none can be forked."""
        own = environment(self.threads, extra)
        command = {"arguments": list(arguments), "environment": own, "folder": str(Path.cwd())}
        self.listen()
        if self.is_gone:
            return None
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # between question and answer nothing may break in
        try:
            socket.send_fds(self.socket, [json.dumps(command).encode()], [output.fileno()])
            return self.answer()
        except OSError as error:
            self.is_gone = error.errno != errno.EMSGSIZE  # an environment larger than a packet may be
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def answer(self) -> Forked | None:
        """The process that was asked for; None where there is none."""
        while (message := self.received()) is not None:
            if "code" in message:
                self.note(message)
            elif "pid" in message:
                forked = self.children[message["pid"]] = Forked(message["pid"], self, holder_of(message["pid"]))
                return forked
            else:
                return None
        self.is_gone = True
        return None

    def listen(self) -> None:
        """Take in what has been told since."""
        self.socket.setblocking(False)
        try:
            while not self.is_gone:
                message = self.received()
                self.is_gone = message is None
                if message:
                    self.note(message)
        except BlockingIOError:
            pass
        finally:
            self.socket.setblocking(True)

    def note(self, message: Mapping[str, int]) -> None:
        """A process has ended."""
        if child := self.children.pop(message["pid"], None):
            child.returncode = message["code"]

    def received(self) -> dict[str, int] | None:
        """The next message, None where no more will come. Raises BlockingIOError where none has come yet."""
        try:
            packet = self.socket.recv(4096)
        except ConnectionError:
            return None
        message: dict[str, int] | None = json.loads(packet) if packet else None
        return message

    def close(self) -> None:
        """Let it end. What it has forked goes on."""
        self.socket.close()
        self.process.wait()


def holder_of(pid: int) -> Holder | None:
    """Who that is; None where there is no such process any more."""
    try:
        return Holder.of(pid)
    except psutil.NoSuchProcess:
        return None


def environment(threads: int, extra: Mapping[str, str]) -> dict[str, str]:
    """Of a harness process: never a rank of the job that the search itself may be a part of."""
    own = {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1", **NO_THREADS}
    return {name: value for name, value in os.environ.items() if name != "RANK"} | own | dict(extra)


_known: dict[int, Forks] = {}


def forks(threads: int) -> Forks | None:
    """What forks processes of so many threads, started where it is missing; None on a host that must not fork."""
    if sys.platform != "linux" or Path("/dev/nvidiactl").exists():
        return None
    known = _known.get(threads)
    if known is None:
        known = _known[threads] = Forks(threads)
        atexit.register(known.close)
    return None if known.is_gone else known
