"""Runs as processes, so many at a time. A run that fails is noted and the rest goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.study import PlannedRun, set_aside

POLL_S = 0.25
GRACE_S = 30.0  # between asking a run to stop and killing it


@dataclass(frozen=True, eq=False)
class Attempt:
    """A run's process, or what became of it."""

    run: PlannedRun
    process: subprocess.Popen[bytes]

    @property
    def metrics(self) -> dict[str, Any] | None:
        """Its latest line of metrics, or None before the first."""
        return latest_metrics(self.run.folder)

    @property
    def failure(self) -> str | None:
        """Why it failed, in its own last words; None while it goes on or where it finished."""
        if self.process.poll() in (None, 0):
            return None
        if self.process.returncode < 0:
            return f"killed by {signal.Signals(-self.process.returncode).name} (out of memory, if nobody did it)"
        lines = self.run.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.returncode} without a word"


def run_all(runs: Sequence[PlannedRun], slots: int) -> Generator[tuple[list[Attempt], list[Attempt]]]:
    """Run everything, `slots` at a time; yields (running, just ended) every quarter of a second.

    However this ends, no process is left behind.
    """
    waiting, running = list(runs), list[Attempt]()
    try:
        while waiting or running:
            while waiting and len(running) < slots:
                running.append(start(waiting.pop(0)))
            ended = [attempt for attempt in running if attempt.process.poll() is not None]
            running = [attempt for attempt in running if attempt not in ended]
            yield running, ended
            time.sleep(POLL_S if running else 0)
    finally:
        for attempt in running:
            signal_group(attempt.process, signal.SIGTERM)
        for attempt in running:
            wait_or_kill(attempt.process)


def start(run: PlannedRun) -> Attempt:
    """Start or resume the run in a session of its own, its output going to the run's log."""
    arguments = ["resume", str(run.folder)]
    if not run.can_be_resumed:
        set_aside(run)
        arguments = ["train", "--config", str(run.config_file), "--output_dir", str(run.folder)]
    run.log.parent.mkdir(exist_ok=True)
    with run.log.open("ab") as log:  # what an earlier attempt said stays above
        return Attempt(run, harness_process(arguments, run.config.run.threads, log))


def harness_process(arguments: Sequence[str], threads: int, output: Any) -> subprocess.Popen[bytes]:
    """A `python -m harness` process with its thread count in its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )


def stop_process(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """Ask a process and its children to stop, wait, and kill what does not."""
    signal_group(process, signal.SIGTERM)
    wait_or_kill(process, grace_s)


def wait_or_kill(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """Wait for a process that was asked to stop (once: the second time means at once), and kill it if it does not."""
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        signal_group(process, signal.SIGKILL)
        process.wait()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the process and its children, if it still lives."""
    if process.poll() is None:
        os.killpg(process.pid, number)


def latest_metrics(folder: Path) -> dict[str, Any] | None:
    """The last whole line of metrics.jsonl, or None."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return None
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is still being written
    try:
        metrics: dict[str, Any] | None = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return metrics
