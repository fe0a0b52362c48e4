"""A harness command with all that it starts: a session of processes, of which nothing is left when it is ended."""

import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from harness import HarnessError, say
from sweeps.workers.processes import Process, environment, start_process, uninterrupted

GRACE_S = 30.0  # between asking a run to stop and killing it
KILLED_S = 30.0  # for killed processes to be gone
LOOK_S = 0.25
ON_FOLDER = re.compile(r"(?:^| )harness (?:train .*--output_dir|resume|prepare --config) (.+)$")


@dataclass(frozen=True, eq=False)
class Session:
    """A process, if it is ours, and the session that it leads. No leader: it had ended before we could look."""

    process: Process | None
    leader: psutil.Process | None

    def poll(self) -> int | None:
        """The process's exit code, negative for a signal; None while it runs."""
        return self.process.poll() if self.process else None

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
            self.process.wait()


def start_session(arguments: Sequence[str], threads: int, output: IO[bytes], extra: Mapping[str, str]) -> Session:
    """`python -m harness ARGUMENTS` with its thread count and `extra` in its environment."""
    process = start_process(arguments, output, environment(threads, extra))
    with suppress(psutil.NoSuchProcess):
        return Session(process, psutil.Process(process.pid))
    return Session(process, None)


def run_to_end(arguments: Sequence[str], threads: int, log: Path) -> int:
    """The same, its output going to the log, and said line by line; its exit code. Nothing of it is left afterwards."""
    said = 0
    with log.open("wb") as output:
        with uninterrupted():
            session = start_session(arguments, threads, output, {})
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
        # A forked process has one string, padded with blanks, in place of its arguments; the folder comes last in both.
        words = ON_FOLDER.search(" ".join(process.cmdline()).rstrip())
        if words and os.getsid(process.pid) == process.pid:
            return Path(process.cwd(), words[1]).resolve().is_relative_to(study)
    return False
