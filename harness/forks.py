"""python -m harness.forks FD: a process that has imported everything a run needs, and forks one for every command.

Imports take seconds, a fork some milliseconds. What makes it safe: nothing but imports happens before a fork, no thread
is ever started here (whose locks a fork would copy as they stood), and a child never comes back. So a run knows nothing
of the runs before it. Only what starts runs talks to it: a packet with the command, its environment and its output for
a process number, and a packet with the exit code when that process has ended. It ends when nobody listens any more.

Left out on purpose: GPUs, whose driver survives no fork, and systems other than Linux.
"""

import gc
import json
import os
import random
import select
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import setproctitle

from harness.backends.signals import STOPPING

PACKET = 2**20  # bytes of a command with its environment, at most: the kernel's own limit is lower
HANDLERS: dict[int, Any] = {}  # of the signals that this process ignores, as its children are to have them
LAZY = ("AutoModelForCausalLM", "AutoTokenizer", "PreTrainedTokenizerFast", "Qwen2Config", "Qwen2ForCausalLM")


def main() -> int:
    """Serve until nobody listens, and in a child run its command: the exit code of either."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    HANDLERS.update({number: signal.signal(number, signal.SIG_IGN) for number in STOPPING})  # they are meant for runs
    import_everything()
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        print("error: expected no thread before a fork, got some: runs are started afresh", file=sys.stderr)
        return 1
    gc.freeze()  # else every collection in a child would copy all pages
    command = serve(requests) if told(requests, {}) else None
    return 0 if command is None else run(command)


def import_everything() -> None:
    """All that a run imports, sooner or later."""
    import importlib
    import pkgutil

    import transformers

    import harness

    for module in pkgutil.walk_packages(harness.__path__, "harness."):
        importlib.import_module(module.name)
    for name in LAZY:
        getattr(transformers, name)
    from harness.run.environment import code_facts

    code_facts()  # of the code that has just been imported, whatever its files become


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork at every request and tell of every end; None when nobody listens, and in a child its command."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    while True:
        ready, _, _ = select.select([requests.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            if not tell_ends(requests):
                return None
        if requests.fileno() in ready:
            packet, outputs, _, _ = socket.recv_fds(requests, PACKET, 1)
            if not packet:
                return None
            command = json.loads(packet)
            process = forked(command, outputs[0])
            if process == 0:
                for descriptor in (requests.detach(), woken, wake):
                    os.close(descriptor)
                return dict(command)
            if not told(requests, {} if process is None else {"pid": process}):
                return None


def forked(command: Mapping[str, Any], output: int) -> int | None:
    """0 in the child; its number in the parent, as soon as it leads a session of its own; None without room."""
    try:
        began, has_begun = os.pipe()
    except OSError:
        os.close(output)
        return None
    try:
        process = os.fork()
    except OSError:
        process = None
    if process == 0:
        become(command, output)
        os.close(began)
        os.close(has_begun)
        return 0
    os.close(has_begun)
    os.read(began, 1)  # nothing comes: the child closes its end
    os.close(began)
    os.close(output)
    return process


def tell_ends(requests: socket.socket) -> bool:
    """Tell of every child that has ended; whether somebody listened."""
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if process == 0:
            return True
        if not told(requests, {"pid": process, "code": os.waitstatus_to_exitcode(status)}):
            return False


def told(requests: socket.socket, message: Mapping[str, int]) -> bool:
    """Whether somebody listened."""
    try:
        requests.send(json.dumps(message).encode())
    except OSError:
        return False
    return True


def become(command: Mapping[str, Any], output: int) -> None:
    """Make this child the process that the command asks for: its session, signals, environment, output and name."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number, handler in ({signal.SIGCHLD: signal.SIG_DFL} | HANDLERS).items():
        signal.signal(number, handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    os.chdir(command["folder"])
    words = ["python", "-m", "harness", *command["arguments"]]
    setproctitle.setproctitle(" ".join(words))  # while the environment lies where it did
    os.environ.clear()
    os.environ.update(command["environment"])
    random.seed()  # nothing of a run's draws on these, but no two processes should have the same
    np.random.seed()
    sys.argv, sys.orig_argv = words[2:], words


def run(command: Mapping[str, Any]) -> int:
    """The harness command in this child: its exit code."""
    from harness.__main__ import main as harness_main
    from harness.cli.parser import run_command

    return run_command(harness_main, list(command["arguments"]), needs=("losses", "harness"))


if __name__ == "__main__":
    sys.exit(main())
