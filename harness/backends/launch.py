"""Starts the ranks of a run and watches over them: all end together, and none outlives the others.

This process alone hears signals; the ranks read of them in a file at their next step boundary. A rank that dies, or
that shows no progress for longer than the deadline, ends the whole group, and is named with the phase that it was in.
"""

import faulthandler
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from harness.backends.hosts import RankStart, rank_starts
from harness.backends.liveness import LIVENESS, STOP, Beat, beat, die_with_parent, read_beat
from harness.backends.rendezvous import STORE, check_world_size
from harness.backends.signals import stop_requests
from harness.config.schema import Config
from harness.console import say
from harness.errors import MEMORY_ADVICE, REASON_FILE, OutOfMemory, RanksFailed, Stopped, UsageError, memory_kills
from harness.files import write_json
from harness.run.folder import STATUS
from harness.run.history import json_object
from harness.run.record import refuse_used_folder

POLL_S = 0.2
GRACE_S = 5.0  # for the other ranks to say the same when one has failed in words
START_DEADLINE_S = 600.0  # to the first sign of a rank: imports, and a model of many GB from a slow disk


def by_ranks(config: Config, arguments: Sequence[str], folder: Path, is_new: bool) -> bool:
    """Whether the command was carried out by ranks of its own, as the config asks, to its end; False in a rank itself.

    A rank may also be started by torchrun or srun: whatever sets torch's environment variables.
    """
    if config.backend.backend == "torch":
        return False
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        check_world_size(config.backend.nproc)
        be_a_rank()
        return False
    for name in ("deepspeed", *(["vllm"] if config.engine.engine == "vllm" else [])):
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"--{'engine' if name == 'vllm' else 'backend'} {name}: expected the package {name}, got none"
            )
    if is_new:
        refuse_used_folder(folder)
    launch(config, arguments, folder)
    return True


def be_a_rank() -> None:
    """End with the launcher, and leave the stacks where it finds them when it asks for them."""
    die_with_parent()
    if folder := os.environ.get(LIVENESS):
        # kept open for the handler, which cannot open files
        faulthandler.enable(Path(folder, f"rank-{os.environ['RANK']}.stack").open("w"))  # noqa: SIM115
        beat("start")


def launch(config: Config, arguments: Sequence[str], folder: Path) -> None:
    """Run `python -m harness ARGUMENTS` as the config's ranks, to its end; `folder` is the run's.

    Raises Stopped where a signal ended them, and RanksFailed, with the exit code of the first that failed, where they
    did not all finish.
    """
    with liveness_folder(config, folder) as liveness, stop_requests() as requested:
        group = Group(rank_starts(config, arguments), liveness, config.backend.phase_deadline_s)
        kills = memory_kills()
        try:
            group.start()
            fault = group.watch(requested)
        finally:
            left = group.end()
        if fault is None and left:
            fault = Fault(left[0], 1, f"processes {left} could not be ended: see what holds them")
        if fault is not None:
            is_memory = fault.code == 128 + signal.SIGKILL and memory_kills() > kills
            end_with(fault, is_memory, folder)


@dataclass(frozen=True)
class Fault:
    """What ended the group."""

    rank: int
    code: int
    reason: str
    is_said: bool = False  # by the rank itself, on this terminal
    is_final: bool = False  # it would fail again
    reason_code: str = "rank_failed"


@dataclass
class Watched:
    """A rank's process, and when it was last seen to do something."""

    start: RankStart
    process: subprocess.Popen[bytes]
    beat: Beat = field(default_factory=Beat)
    seen: float = field(default_factory=time.monotonic)

    def look(self, liveness: Path) -> None:
        """Read its last word."""
        beat = read_beat(liveness, self.start.rank)
        if (beat.count, beat.is_waiting) != (self.beat.count, self.beat.is_waiting):
            self.beat, self.seen = beat, time.monotonic()


@dataclass
class Group:
    """All ranks that this process has started."""

    starts: Sequence[RankStart]
    liveness: Path
    deadline_s: float
    ranks: list[Watched] = field(default_factory=list)

    def start(self) -> None:
        """Start them, each a process group of this session; the first speaks for all, the others to their logs."""
        for one in self.starts:
            more = {LIVENESS: str(self.liveness), "PYTHONUNBUFFERED": "1", "TORCHELASTIC_USE_AGENT_STORE": "False"}
            more[REASON_FILE] = str(self.liveness / f"rank-{one.rank}.reason")
            if one.is_on_one_host:
                more[STORE] = str(self.liveness / "store")
            speaks = one.rank == self.starts[0].rank
            with self.log(one.rank).open("wb") as log:
                process = subprocess.Popen(
                    one.words(more),
                    env=os.environ | one.environment | more,
                    stdin=subprocess.DEVNULL,
                    stdout=None if speaks else log,
                    stderr=None if speaks else log,
                    process_group=0,
                )
            self.ranks.append(Watched(one, process))

    def log(self, rank: int) -> Path:
        """What a rank prints that does not speak."""
        return self.liveness / f"rank-{rank}.log"

    def watch(self, requested: Callable[[], str | None]) -> Fault | None:
        """Until all have finished, or what has gone wrong."""
        while True:
            if name := requested():
                (self.liveness / STOP).write_text(name, encoding="utf-8")
            codes = [one.process.poll() for one in self.ranks]
            if failed := [one for one, code in zip(self.ranks, codes, strict=True) if code not in (None, 0)]:
                return self.fault_of(failed[0])
            if all(code == 0 for code in codes):
                return None
            for one in self.ranks:
                one.look(self.liveness)
            if late := self.late():
                return self.hung(late)
            time.sleep(POLL_S)

    def fault_of(self, first: Watched) -> Fault:
        """What the failed rank says of itself, once the others have had the time to say the same."""
        deadline = time.monotonic() + GRACE_S
        while any(one.process.poll() is None for one in self.ranks) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        failed = [one for one in self.ranks if one.process.poll() not in (None, 0)]
        # one in words tells more than those whose connection to it broke
        killed = [one for one in failed if one.process.returncode < 0]
        first = next(iter([*killed, *(one for one in failed if is_stop(one)), first]))
        rank, code = first.start.rank, int(first.process.returncode)
        where = f"rank {rank} in phase {read_beat(self.liveness, rank).phase}"
        if code < 0:
            return Fault(rank, 128 - code, f"{where} was killed by {signal.Signals(-code).name}")
        speaks = first is self.ranks[0]
        words = "" if speaks else last_line(self.log(rank))
        return Fault(
            rank,
            code,
            f"{where} failed with exit code {code}: {words}",
            is_said=speaks,
            is_final=code in (1, 2),
            reason_code=read_reason(self.liveness, rank),
        )

    def late(self) -> list[Watched]:
        """Ranks without a sign for too long: of those, the ones that do not wait for others and have done least."""
        now = time.monotonic()
        alive = [one for one in self.ranks if one.process.poll() is None]
        patience = [
            max(START_DEADLINE_S, self.deadline_s) if one.beat.phase == "start" else self.deadline_s for one in alive
        ]
        over = [one for one, allowed in zip(alive, patience, strict=True) if now - one.seen > allowed]
        busy = [one for one in over if is_stopped(one)] or [one for one in over if not one.beat.is_waiting] or over
        least = min((one.beat.count for one in busy), default=0)
        return [one for one in busy if one.beat.count == least]

    def hung(self, late: list[Watched]) -> Fault:
        """Ask the late ones for their stacks, and name them."""
        for one in late:
            with suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGABRT)  # faulthandler prints where each thread stands
        names = ", ".join(f"rank {one.start.rank}" for one in late)
        waited = f"{time.monotonic() - late[0].seen:.0f} s"
        stands = stack_of(self.liveness / f"rank-{late[0].start.rank}.stack")
        reason = f"{names} in phase {late[0].beat.phase} showed no progress for {waited}{stands}: "
        return Fault(late[0].start.rank, 1, f"{reason}see that rank's host, or raise --phase_deadline_s")

    def end(self) -> list[int]:
        """Kill what is left of every rank's process group; the numbers of processes that could not be killed."""
        families = [family(one.process.pid) for one in self.ranks]
        for one in self.ranks:
            with suppress(ProcessLookupError):
                os.killpg(one.process.pid, signal.SIGKILL)
        for process in [process for each in families for process in each]:
            with suppress(psutil.Error):
                process.kill()
        for one in self.ranks:
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(timeout=20)
        _, alive = psutil.wait_procs([process for each in families for process in each], timeout=20)
        return [process.pid for process in alive]


def is_stop(one: Watched) -> bool:
    """Whether a rank ended because it was asked to, or says itself why it failed."""
    return one.process.returncode in (2, Stopped.exit_code)


def is_stopped(one: Watched) -> bool:
    """Whether a rank of this host was stopped by a signal."""
    try:
        return bool(psutil.Process(one.process.pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def family(pid: int) -> list[psutil.Process]:
    """A process and what it has started, as far as they live."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def last_line(path: Path) -> str:
    """The last words in a log."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "without a word"


def read_reason(liveness: Path, rank: int) -> str:
    """The reason code that the rank gave before it ended, or that of a rank that could not give one."""
    path = liveness / f"rank-{rank}.reason"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else "rank_failed"


def stack_of(path: Path) -> str:
    """The innermost line of this project's code in a dumped stack, or nothing."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline and path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip().startswith("File ") and "/harness/" in line:
                return f" ({line.strip()})"
        time.sleep(0.1)
    return ""


def end_with(fault: Fault, is_memory: bool, folder: Path) -> None:
    """Leave the reason in status.json, where the first rank could not, and raise it."""
    reason = f"{fault.reason}; out of memory: {MEMORY_ADVICE}" if is_memory else fault.reason
    code = OutOfMemory.code if is_memory else fault.reason_code
    status = json_object(folder / STATUS)
    if status is not None and status.get("state") == "running":
        state = "failed" if fault.is_final else "preempted"
        ended = {"state": state, "reason_code": code, "reason": reason, "exit_code": fault.code}
        write_json(folder / STATUS, status | ended)
    go_on = f"; go on with: python -m harness resume {folder}" if status is not None and not fault.is_final else ""
    raise RanksFailed("" if fault.is_said else f"{reason}{go_on}", fault.code, code)


@contextmanager
def liveness_folder(config: Config, folder: Path) -> Iterator[Path]:
    """A folder for the ranks' signs of life: of this host, or where other hosts see it too, beside the run's.

    That of this host is this user's alone: what its ranks meet in lies there too.
    """
    if config.backend.hostfile:
        path = folder.resolve().with_name(f".{folder.name}.liveness")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    else:
        path = Path(tempfile.mkdtemp(prefix="fipo-harness-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def print_starts(config: Config, arguments: Sequence[str]) -> None:
    """What would be started, a line per rank."""
    if config.backend.backend == "torch":
        say(f"one process on this host: {shlex.join([sys.executable, '-m', 'harness', *arguments])}")
        return
    for one in rank_starts(config, arguments):
        say(one.line)
