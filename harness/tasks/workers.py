"""Worker processes that can be killed, for graders that hang, need too much memory or run what a response says.

Run as a file, this is the worker: it runs the script it is given and answers each request with the script's function
`reply`. It imports neither this package nor torch, so it starts quickly and inherits nothing. Each request has a limit
on CPU time, at which SIGPROF kills the worker, so that replies do not depend on how busy the machine is. A worker exits
when its input ends, so it outlives a killed parent by that limit at most.
"""

import contextlib
import json
import logging
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

CPU_S = 5.0  # CPU time per request; all but adversarial ones take less than a tenth of a second
REPLY_S = 600.0  # wall-clock limit, for a worker that sleeps instead of computing
MOST_STARTS = 3  # in a row that a signal may end before the process is ready
MEMORY = 1 << 30  # bytes of address space per worker

Request = Sequence[Any]  # arguments of the script's `reply`, as JSON
Reply = tuple[Any, ...]  # begins with an outcome and its reason
CRASH: Reply = ("unchecked", "crash")  # may be the machine's fault: the request is tried once more


class Workers:
    """A pool of `busy` workers, which run the script for one request each, at most `limit_s` seconds of CPU time."""

    def __init__(self, script: Path, busy: int = 2, limit_s: float = CPU_S) -> None:
        self.limit_s, self.closed = limit_s, False
        self.workers = [Worker(script) for _ in range(busy)]
        self.idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)
        self.threads = ThreadPoolExecutor(busy)

    def close(self) -> None:
        """Kill all workers, including busy ones."""
        self.closed = True
        for worker in self.workers:
            worker.process.kill()
        self.threads.shutdown(cancel_futures=True)
        for worker in self.workers:
            worker.end()

    def replies(self, requests: Iterable[Request]) -> list[Reply]:
        """The reply to each request, in order. Raises HarnessError if workers fail to start."""
        return list(self.threads.map(self.reply, requests))

    def reply(self, request: Request) -> Reply:
        """The reply to one request, from the next idle worker."""
        worker = self.idle.get()
        try:
            reply = worker.reply(request, self.limit_s)
            return worker.reply(request, self.limit_s) if reply == CRASH and not self.closed else reply
        finally:
            self.idle.put(worker)


class Worker:
    """A process that answers one request at a time and is replaced when it dies."""

    def __init__(self, script: Path) -> None:
        self.script, self.failed_starts = script, 0
        self.start()

    def start(self) -> None:
        """Start a process without waiting for it: a request waits until it is ready."""
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(self.script)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},  # deterministic; little memory
                start_new_session=True,  # Ctrl-C must reach only the run, which stops at a step boundary
            )
        self.socket.settimeout(REPLY_S)
        self.lines, self.is_ready = self.socket.makefile("rw", encoding="utf-8"), False

    def end(self, patience_s: float = 0.0) -> int:
        """Kill the process if it has not exited by itself after `patience_s`; its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        self.process.kill()
        with contextlib.suppress(OSError):  # flushing a request that it did not live to read
            self.lines.close()
        self.socket.close()
        return self.process.wait()

    def reply(self, request: Request, limit_s: float) -> Reply:
        """The process's reply, or "unchecked" with the reason "time" or "crash".

        Raises HarnessError if the process exits before it is ready, or a signal ends it then MOST_STARTS times in a
        row: the script does not run.
        """
        line = ""
        try:
            self.is_ready = self.is_ready or self.lines.readline() != ""
            print(json.dumps([*request, limit_s]), file=self.lines, flush=True)
            line = self.lines.readline()
        except TimeoutError:
            self.process.kill()
        except OSError:  # the process has closed its end
            pass
        reply: Reply = tuple(json.loads(line)) if line else CRASH
        if line and reply[1] != "memory":
            return reply
        code = self.end(0.0 if line else REPLY_S)  # what closes its end may take a moment to exit
        self.failed_starts = 0 if self.is_ready else self.failed_starts + 1
        runs = self.is_ready or (code < 0 and self.failed_starts < MOST_STARTS)
        self.start()
        if not runs:
            from harness.errors import HarnessError  # imported here because the worker script runs without the package

            raise HarnessError(
                f"expected the worker of {self.script.name} to run, but it exited with code {code}: "
                f"run {sys.executable} -P {__file__} {self.script} to see why"
            )
        return ("unchecked", "time") if code == -signal.SIGPROF else reply


def main(script: str) -> None:
    """The worker: prints "ready", then answers each line of JSON with a line of JSON until its input ends."""
    requests, replies = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keeps anything that a library prints out of the replies
    logging.disable(logging.CRITICAL)
    bound_memory()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    answer = runpy.run_path(script)["reply"]
    print("ready", file=replies, flush=True)
    for request in requests:
        *arguments, cpu_s = json.loads(request)
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        reply = checked(answer, arguments)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reply), file=replies, flush=True)


def bound_memory() -> None:
    """Limit the address space, on systems that support it, and turn core files off."""
    for what, soft in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MEMORY)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (soft, resource.getrlimit(what)[1]))


def exhausted() -> bool:
    """Whether peak memory came close to the limit (on Linux): math-verify treats a MemoryError as a wrong answer.

    Not read with getrusage, whose peak includes the parent's memory at the fork.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    peak = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)  # KiB
    return peak * 1024 > MEMORY // 2


def checked(answer: Callable[..., Reply], arguments: Request) -> Reply:
    """The script's reply; "unchecked" with a reason if it raises an error."""
    try:
        reply = answer(*arguments)
    except MemoryError:
        reply = "unchecked", "memory"
    except RecursionError:
        reply = "unchecked", "depth"
    except (Exception, SystemExit):  # sympy may raise any error, and what a response says may exit
        reply = "unchecked", "error"
    return ("unchecked", "memory") if reply[0] != "right" and exhausted() else reply


if __name__ == "__main__":
    main(sys.argv[1])
