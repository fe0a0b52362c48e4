"""A harness command with all that it starts: a session of processes, of which nothing is left when it is ended.

Its first process is one of multiprocessing. The fork server, which has imported harness/preload.py and never runs
anything itself, makes it in milliseconds, and no run depends on the runs before it. With GPUs, whose driver does not
survive a fork, and on systems other than Linux it is spawned, which takes seconds.
"""

import multiprocessing
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import setproctitle

from harness import HarnessError, run_command, say

# Threads that NumPy and pyarrow would start while being imported, before any fork; a run has no use for them.
NO_THREADS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1
LOST, NO_SERVER = -9, 255  # our exit code for a run whose fork server was killed, and multiprocessing's
GRACE_S = 30.0  # between asking a run to stop and killing it
KILLED_S = 30.0  # for killed processes to be gone
LOOK_S = 0.25
ON_FOLDER = re.compile(r"(?:^| )harness (?:train .*--output_dir|resume|prepare --config) (.+)$")


@dataclass(frozen=True, eq=False)
class Session:
    """A process, if it is ours, and the session that it leads. No leader: it had ended before we could look."""

    process: BaseProcess | None
    leader: psutil.Process | None

    def poll(self) -> int | None:
        """The process's exit code, negative for a signal; None while it runs."""
        code = self.process.exitcode if self.process else None
        return LOST if code == NO_SERVER else code

    def ask_to_end(self) -> None:
        """SIGTERM to the process and those of its group, if it lives."""
        if self.leader and self.poll() is None and self.leader.is_running():
            with suppress(ProcessLookupError):
                os.killpg(self.leader.pid, signal.SIGTERM)

    def end(self, grace_s: float = 0.0) -> None:
        """See that every process of the session ends: of itself within the grace, else killed.

        A session outlives its leader, whose number is free for another process only when the session has ended.
        Raises HarnessError where the kernel does not let go of one.
        """
        number_is_reused = self.leader and psutil.pid_exists(self.leader.pid) and not self.leader.is_running()
        deadline = time.monotonic() + grace_s
        while left := members(self.leader.pid) if self.leader and not number_is_reused else []:
            if time.monotonic() > deadline + KILLED_S:
                raise HarnessError(f"processes {[process.pid for process in left]} cannot be killed: reboot the host")
            if time.monotonic() >= deadline:
                for process in left:
                    with suppress(psutil.Error):
                        process.kill()
            time.sleep(0.05)
        if self.process:
            self.process.join()


def start_session(arguments: Sequence[str], threads: int, log: Path, extra: Mapping[str, str]) -> Session:
    """`python -m harness ARGUMENTS`, appending to the log, with its thread count and `extra` in its environment."""
    own = environment(threads, extra)
    may_fork = sys.platform == "linux" and "CUDA_VISIBLE_DEVICES" not in own and not Path("/dev/nvidiactl").exists()
    try:
        process = started("forkserver" if may_fork else "spawn", arguments, log, own)
    except (OSError, EOFError):  # the server ends itself where a library starts a thread
        process = started("spawn", arguments, log, own)
    with suppress(psutil.NoSuchProcess):
        return Session(process, psutil.Process(process.pid))
    return Session(process, None)


def environment(threads: int, extra: Mapping[str, str]) -> dict[str, str]:
    """Environment of a harness process: never a rank of a job that the controller itself is part of."""
    own = {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1", **NO_THREADS}
    return {name: value for name, value in os.environ.items() if name != "RANK"} | own | dict(extra)


def started(method: str, arguments: Sequence[str], log: Path, own: Mapping[str, str]) -> BaseProcess:
    """The command's process, once it leads its session; `method`: of multiprocessing."""
    context: multiprocessing.context.BaseContext = multiprocessing.get_context(method)
    context.set_forkserver_preload(["harness.preload"])
    began, beginning = context.Pipe(duplex=False)
    command = (list(arguments), dict(own), str(Path.cwd()), str(log.absolute()))
    process: BaseProcess = context.Process(target=become, args=(*command, beginning))  # type: ignore[attr-defined]
    before = dict(os.environ)
    try:
        os.environ.update(environment(1, {}))  # what the server finds while it imports
        os.environ.pop("RANK", None)
        process.start()
        beginning.close()
        began.poll(None)  # until the process has closed its end
    finally:
        os.environ.clear()
        os.environ.update(before)
        began.close()
    return process


def become(arguments: list[str], own: dict[str, str], folder: str, log: str, beginning: Connection) -> None:
    """Become the process that `python -m harness ARGUMENTS` would be, and exit with its code."""
    os.setsid()
    for number in ENDING:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for target in (1, 2):
        os.dup2(output, target)
    os.close(output)
    os.chdir(folder)
    words = ["python", "-m", "harness", *arguments]
    setproctitle.setproctitle(" ".join(words))  # before the environment moves in memory
    os.environ.clear()
    os.environ.update(own)
    import numpy as np

    from harness.__main__ import main

    random.seed()  # a run's draws do not depend on these, but no two processes should share them
    np.random.seed()
    sys.argv, sys.orig_argv = words[2:], words
    beginning.close()
    sys.exit(run_command(main, arguments, needs=("losses", "harness")))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back signals, so that no process is started without our knowing it; whichever thread they come to."""
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda came, _: arrived.append(came)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came in arrived:
            signal.raise_signal(came)


def run_to_end(arguments: Sequence[str], threads: int, log: Path) -> int:
    """The exit code of the command, of which nothing is left then; what it prints is said line by line, and kept."""
    said = 0
    log.write_bytes(b"")
    with uninterrupted():
        session = start_session(arguments, threads, log, {})
    try:
        while True:
            code = session.poll()
            *lines, _ = log.read_text(encoding="utf-8", errors="replace").split("\n")
            for line in lines[said:]:
                say(line.rstrip())
            said = len(lines)
            if code is not None:
                return code
            time.sleep(LOOK_S)
    finally:
        session.ask_to_end()
        session.end(GRACE_S)


def members(session: int) -> list[psutil.Process]:
    """The living processes of a session, whatever became of the one that began it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_left_behind(study: Path) -> None:
    """End what a killed controller of the study left running on this host."""
    processes = [process for process in psutil.process_iter() if works_in(process, study.resolve())]
    left = [Session(None, process) for process in processes]
    for session in left:
        session.ask_to_end()
    for session in left:
        session.end(GRACE_S)


def works_in(process: psutil.Process, study: Path) -> bool:
    """Whether it leads a session and runs or prepares something in this very folder, however that is spelled."""
    with suppress(psutil.Error, OSError):
        # Its title is one string, padded with blanks, in place of its arguments; the folder comes last in both.
        words = ON_FOLDER.search(" ".join(process.cmdline()).rstrip())
        if words and os.getsid(process.pid) == process.pid:
            return Path(process.cwd(), words[1]).resolve().is_relative_to(study)
    return False
