"""Processes for tests: sessions that live until they are ended, and who is alive."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {DEAF!r}]).wait()"


@contextmanager
def session(code: str = PARENT) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, with a child that ignores SIGTERM; both are there when this begins."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more. It may stay as a zombie: not every container's first process waits for orphans."""
    with suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def processes_that_name(*texts: str) -> list[int]:
    """The living processes in whose command lines all of the texts stand."""
    lines = {one.pid: " ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])}
    return [pid for pid, line in lines.items() if all(text in line for text in texts)]
