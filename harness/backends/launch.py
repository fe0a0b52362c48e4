"""`--nproc N`: runs a command as N ranks on this host, and reports in one line which rank failed and why."""

import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.backends.phases import PHASE, REASON
from harness.backends.signals import STOPPING, stop_requests
from harness.config.schema import Config
from harness.errors import MEMORY_ADVICE, OutOfMemory, PeerLost, RanksFailed, Stopped, UsageError, memory_kills

SPOKEN = {1: "error: ", UsageError.exit_code: "error: ", Stopped.exit_code: "stopped by "}  # start of a rank's message
VICTIMS = (PeerLost.exit_code, -signal.SIGABRT, -signal.SIGTERM)  # ended because another rank failed
STOPPED = tuple(-number for number in STOPPING)  # by a signal that came before the rank could save


def launch(config: Config, words: list[str]) -> None:
    """Run `python WORDS` as the config's `nproc` ranks and wait until they have finished.

    Raises RanksFailed with the failed rank's exit code and a one-line message. The folder with the ranks' logs is
    deleted unless the message refers to one of them.
    """
    from harness.backends.agent import make_agent  # a slow import (60 ms) that other commands do not need

    os.environ["OMP_NUM_THREADS"] = str(config.run.threads)
    folder = Path(tempfile.mkdtemp(prefix="fipo-harness-"))
    fault = None
    try:
        with stop_requests() as requested:
            agent = make_agent(config.backend.nproc, words, folder, config.backend.phase_deadline_s, requested)
            kills = memory_kills()
            try:
                failures = agent.run().failures
            finally:
                agent.send(signal.SIGKILL)  # to processes that the ranks started and left running
        if failures:
            endings = [ending_of(rank, one, folder, one.pid in agent.stopped) for rank, one in failures.items()]
            fault = first_fault(endings, memory_kills() > kills, requested())
            raise fault
    finally:
        if str(folder) not in str(fault):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Ending:
    """How a rank ended that did not finish, and the files that it left behind."""

    rank: int
    code: int  # exit code; below 0, the number of the signal that killed it
    time: int  # Unix time at which it failed
    was_stopped: bool  # the agent killed it because it was suspended
    phase: str
    log: Path
    text: str  # content of the log
    reason_code: str | None  # as written by the rank

    @property
    def spoken(self) -> str | None:
        """The rank's own message about its failure, if it printed one."""
        start = SPOKEN.get(self.code)
        found = [line for line in self.text.splitlines() if start and line.startswith(start)]
        return found[-1].removeprefix("error: ") if found else None

    @property
    def hung(self) -> str | None:
        """How long the rank made no progress, and where, if it was ended because it hung; else None."""
        if self.was_stopped:
            return "half of --phase_deadline_s because a signal had stopped it"
        _, timeout, dump = self.text.rpartition("Timeout (")
        if not timeout or self.code != 1:
            return None
        stack = dump.rpartition("Thread 0x")[2].splitlines()  # faulthandler prints the main thread last
        ours = next((line.strip() for line in stack if "/harness/" in line), stack[0])
        return f"{dump.partition(')')[0]} ({ours})"


def ending_of(rank: int, failure: Any, folder: Path, was_stopped: bool) -> Ending:
    """Collect an ending from torch's ProcessFailure and the rank's files."""
    own = next(folder.glob(f"*/*/{rank}"))
    log, phase = own / "stderr.log", own / PHASE
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    named = phase.read_text(encoding="utf-8") if phase.is_file() else "start"
    reason = (own / REASON).read_text(encoding="utf-8").strip() if (own / REASON).is_file() else None
    return Ending(rank, failure.exitcode, failure.timestamp, was_stopped, named, log, text, reason)


def first_fault(endings: list[Ending], is_memory: bool, requested: str | None) -> RanksFailed:
    """The failure that caused the others: a rank that hung, else the first that was not a victim of another rank."""
    first = min(endings, key=lambda one: (not one.was_stopped, not one.hung, one.code in VICTIMS, one.time, one.rank))
    where, code = f"rank {first.rank} in phase {first.phase}", first.code
    if first.hung:
        log = f"; its log: {first.log}" if first.text else ""
        advice = f"check that rank's host, or raise --phase_deadline_s{log}"
        return RanksFailed(f"{where} showed no progress for {first.hung}: {advice}", 1)
    if first.spoken:
        named = f"rank {first.rank}: " if first.rank and code == 1 else ""
        return RanksFailed(f"{named}{first.spoken}", code, first.reason_code or "failed", code != Stopped.exit_code)
    if requested and code in VICTIMS + STOPPED:
        return RanksFailed(f"stopped by {requested} before the first step", Stopped.exit_code, Stopped.code)
    if code < 0:
        killed = f"{where} was killed by {signal.Signals(-code).name}"
        if is_memory and code == -signal.SIGKILL:
            return RanksFailed(f"{killed}; out of memory: {MEMORY_ADVICE}", 128 - code, OutOfMemory.code)
        return RanksFailed(killed, 128 - code)
    if code == PeerLost.exit_code:
        return RanksFailed(f"{where} lost contact with the other ranks; its log: {first.log}", 1)
    words = (first.text.strip().splitlines() or ["no message"])[-1].removeprefix(f"[rank{first.rank}]: ")
    return RanksFailed(f"{where} failed: {words}; its log: {first.log}", code, "failed", is_final=True)
