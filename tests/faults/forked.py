"""Runs in processes forked from this one: each may be killed, and skips six seconds of imports."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness.cli.parser import run_command
from harness.config.schema import Config
from harness.loop import OnStep, train
from harness.resume import resume
from tests.faults.writes import Fault, strike
from tests.harness.runs import ignore

UNFORESEEN = 70  # a traceback, where a command has an exit code and one line


class Ended(NamedTuple):
    """How a process ended: its exit code, or minus the signal that killed it, and what it had printed."""

    code: int
    printed: str


def forked(action: Callable[[], object], log: Path, fault: Fault | None = None) -> Ended:
    """How a process of its own ended that did the action as a command would, all its writes under the fault."""
    if pid := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return Ended(code, log.read_text(encoding="utf-8") if log.exists() else "")
    code = UNFORESEEN
    with log.open("w", encoding="utf-8", buffering=1) as printed, contextlib.suppress(BaseException):
        try:
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            sys.stdout = sys.stderr = printed
            if fault:
                strike(fault)
            code = run_command(lambda _: action() and None, [])
        except BaseException:
            traceback.print_exc()
    os._exit(code)


def going_on(config: Config, run: Path, on_step: OnStep = ignore) -> Callable[[], object]:
    """What a user does next: `resume` where there is a run, `train` where there is none yet, else nothing."""
    status = run / "status.json"

    def go_on() -> None:
        if not run.exists():
            train(config, run, on_step)
        elif not status.exists() or b'"finished"' not in status.read_bytes():
            resume(run, on_step)

    return go_on
