"""Places to run in: each takes one run at a time, as a process session of its own with its own devices and port."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import psutil

from harness import REASON_FILE, HarnessError, free_port
from sweeps.study.folder import PlannedRun, set_aside
from sweeps.workers.gpus import memory_used_mib
from sweeps.workers.holders import Holder, ask_to_end, end_session
from sweeps.workers.leases import Lease
from sweeps.workers.processes import Finished, Process, environment, fork, holder_of

POLL_S = 0.25
STARTED = "$ python -m harness "  # begins the line that stands before what a process prints
RENEW_S = 15.0  # between renewals of the leases
GRACE_S = 30.0  # between asking a run to stop and killing it
GPU_WAIT_S = 60.0  # for a dead process's GPU memory to be given back
GPU_MARGIN_MIB = 256


class Pollable(Protocol):
    """A process, or what stands for one elsewhere."""

    def poll(self) -> int | None:
        """Its exit code, below 0 for a signal, or None while it goes on."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """A run's process, or what became of it."""

    run: PlannedRun
    process: Pollable

    @property
    def metrics(self) -> dict[str, Any] | None:
        """Its latest line of metrics, or None before the first."""
        return latest_metrics(self.run.folder)

    @property
    def failure(self) -> str | None:
        """Why it failed, in its own last words; None while it goes on or where it finished."""
        code = self.process.poll()
        if code in (None, 0):
            return None
        if code < 0:
            return f"killed by {signal.Signals(-code).name} (out of memory, if nobody did it)"
        return last_words(self.run) or f"exit code {code} without a word"


class Slot(Protocol):
    """Where runs are started."""

    name: str
    takes_whole_trials: bool

    def start(self, runs: Sequence[PlannedRun]) -> list[Attempt]:
        """Start or resume the runs, one after the other."""

    def ask_to_stop(self) -> None:
        """Ask what runs here to save and end."""

    def clear(self, grace_s: float = 0.0) -> None:
        """Leave nothing running here. Raises HarnessError where the slot cannot be used again."""

    def renew(self) -> None:
        """Show other hosts that the slot is held."""

    def release(self) -> None:
        """Give the slot back."""


@dataclass
class LocalSlot:
    """A share of this host: CPU threads, or GPUs by UUID."""

    name: str
    gpus: tuple[str, ...] = ()
    leases: Sequence[Lease] = ()
    process: Process | None = None
    runner: Holder | None = None
    before: Mapping[str, int] = field(default_factory=dict)  # memory in use on the GPUs while nothing ran here, MiB
    takes_whole_trials = False

    def start(self, runs: Sequence[PlannedRun]) -> list[Attempt]:
        """Start or resume the run."""
        (run,) = runs
        port = free_port()
        self.before = self.before or memory_used_mib(self.gpus)
        extra = {"MASTER_PORT": str(port)}
        if self.gpus:
            extra["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        self.process = start(run, extra)
        self.runner = runner = holder_of(self.process.pid)
        for lease in self.leases if runner else ():
            lease.note(runner=runner and runner.written(), run=run.name, port=port, gpus=list(self.gpus))
        return [Attempt(run, self.process)]

    def ask_to_stop(self) -> None:
        """SIGTERM to the run and its children."""
        if self.runner:
            ask_to_end(self.runner)

    def clear(self, grace_s: float = 0.0) -> None:
        """End the session of what ran here, and wait for its GPU memory."""
        if self.process is None:
            return
        if self.runner is not None:
            end_session(self.runner, grace_s)
        self.process.wait()
        self.process = self.runner = None
        for lease in self.leases:
            lease.note()
        deadline = time.monotonic() + GPU_WAIT_S
        while used := self.still_used():
            if time.monotonic() > deadline:
                raise HarnessError(f"GPU memory was not given back: {used}: end what holds it (nvidia-smi)")
            time.sleep(1.0)

    def renew(self) -> None:
        """Renew the leases."""
        for lease in self.leases:
            lease.renew()

    def release(self) -> None:
        """Release the leases, unless something that could not be ended still runs here."""
        if self.process is None:
            for lease in self.leases:
                lease.release()

    def still_used(self) -> str:
        """Which GPUs hold more than before anything ran here, in words."""
        over = {
            uuid: mib - self.before[uuid]
            for uuid, mib in memory_used_mib(self.gpus).items()
            if mib > self.before.get(uuid, mib) + GPU_MARGIN_MIB
        }
        return ", ".join(f"{mib} MiB on {uuid}" for uuid, mib in over.items())


def run_all(runs: Sequence[PlannedRun], slots: Sequence[Slot]) -> Generator[tuple[list[Attempt], list[Attempt]]]:
    """Run everything, one run to a slot; yields (running, just ended) every quarter of a second.

    However this ends, no process is left behind.
    """
    waiting, running, renewed = list(runs), dict[Attempt, Slot](), time.monotonic()
    try:
        while waiting or running:
            for slot in [slot for slot in slots if slot not in running.values()][: len(waiting)]:
                (attempt,) = slot.start([waiting.pop(0)])
                running[attempt] = slot
            ended = [attempt for attempt in running if attempt.process.poll() is not None]
            for attempt in ended:
                running.pop(attempt).clear()
            if time.monotonic() - renewed > RENEW_S:
                renewed = time.monotonic()
                for slot in slots:
                    slot.renew()
            yield list(running), ended
            time.sleep(POLL_S if running else 0)
    finally:
        stop_all(list(running.values()))


def stop_all(slots: Sequence[Slot]) -> None:
    """Ask what runs in the slots to stop, all at once, wait, and kill what does not."""
    for slot in slots:
        slot.ask_to_stop()
    faults = []
    for slot in slots:
        try:
            slot.clear(GRACE_S)
        except HarnessError as fault:
            faults.append(fault)
    if faults:
        raise faults[0]


def start(run: PlannedRun, extra: Mapping[str, str], before: Callable[[], None] | None = None) -> Process:
    """Start or resume the run in a session of its own, its output going to the run's log."""
    end_left_behind(run.folder)
    if run.state() == "finished":  # what was left behind has finished meanwhile
        return Finished()
    arguments = command_of(run)
    run.log.parent.mkdir(exist_ok=True)
    run.reason_file.write_text(" " * 16, encoding="utf-8")  # room for a code, whatever becomes of the disk
    extra = {**extra, REASON_FILE: str(run.reason_file.absolute())}
    with run.log.open("ab") as log:  # what an earlier attempt said stays above
        log.write(f"{STARTED}{' '.join(arguments)}\n".encode())
        log.flush()
        return harness_process(arguments, run.config.run.threads, log, extra, before)


def end_left_behind(folder: Path) -> None:
    """End a session that a dead controller began for the run and had not yet written down."""
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error, OSError):
            if works_on(process, folder.resolve()) and os.getsid(process.pid) == process.pid:
                runner = Holder.of(process.pid)
                ask_to_end(runner)
                end_session(runner, GRACE_S)


def works_on(process: psutil.Process, folder: Path) -> bool:
    """Whether it is a harness command on this very folder: another checkout's may be spelled the same."""
    arguments = process.info["cmdline"] or []
    # a forked process has one string in their place; the folder, which comes last, may contain blanks
    words = " ".join(arguments).rstrip().split(" ")
    ends = (" ".join(words[start:]) for start in range(len(words)))
    return "harness" in words and any(Path(process.cwd(), end).resolve() == folder for end in (*arguments, *ends))


def command_of(run: PlannedRun) -> list[str]:
    """The harness command that goes on with the run, or begins it; what a failed attempt left is moved away first."""
    if run.can_be_resumed:
        return ["resume", str(run.folder)]
    set_aside(run)
    return ["train", "--config", str(run.config_file), "--output_dir", str(run.folder)]


def harness_process(
    arguments: Sequence[str],
    threads: int,
    output: IO[bytes],
    extra: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Process:
    """A `python -m harness` process with its thread count in its environment, which leads a session of its own.

    Forked where that can be; where `before` is to be called in it first, or GPUs are its own, started afresh.
    """
    extra = dict(extra or {})
    can_fork = before is None and "CUDA_VISIBLE_DEVICES" not in extra
    return (fork(arguments, threads, output, extra) if can_fork else None) or subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        stdout=output,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment(threads, extra),
        start_new_session=True,
        preexec_fn=before,
    )


def stop_process(process: Process, grace_s: float = GRACE_S) -> None:
    """Ask a process and its children to stop, wait, and kill what does not."""
    if process.poll() is None:
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(grace_s)
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_words(run: PlannedRun) -> str:
    """The last line that the run's latest process has printed."""
    try:
        text = run.log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = text.rpartition(STARTED)[2].strip().splitlines()
    return lines[-1] if lines[STARTED in text :] else ""


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
