"""`--nproc N`: the ranks of a run on this host, and the one line that says which of them failed and why."""

import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.backends.phases import PHASE
from harness.backends.signals import stop_requests
from harness.config.schema import Config
from harness.errors import PeerLost, RanksFailed, Stopped, UsageError
from harness.memory import ADVICE, memory_kills

SPOKEN = {1: "error: ", UsageError.exit_code: "error: ", Stopped.exit_code: "stopped by "}  # a rank's own last line
VICTIMS = (PeerLost.exit_code, -signal.SIGABRT, -signal.SIGTERM)  # of another's failure, a watchdog or the agent


def launch(config: Config, words: list[str]) -> None:
    """Run `python WORDS` as the config's `nproc` ranks to its end.

    Raises RanksFailed with the exit code and the words of the rank that failed, in a line. The folder with the ranks'
    logs is kept where the line names one of them.
    """
    from harness.backends.agent import make_agent  # torch's agent: 60 ms that no other command needs

    os.environ["OMP_NUM_THREADS"] = str(config.run.threads)
    folder = Path(tempfile.mkdtemp(prefix="fipo-harness-"))
    fault: RanksFailed | None = None
    try:
        with stop_requests() as requested:
            agent = make_agent(config.backend.nproc, words, folder, config.backend.phase_deadline_s, requested)
            kills = memory_kills()
            try:
                failures = agent.run().failures
            finally:
                agent.send(signal.SIGKILL)  # what a rank has started itself
            if failures:
                logs = {rank: next(folder.glob(f"*/*/{rank}")) for rank in failures}
                endings = [Ending(rank, one, logs[rank], one.pid in agent.stopped) for rank, one in failures.items()]
                fault = first_fault(endings, memory_kills() > kills, requested())
                raise fault
    finally:
        if fault is None or str(folder) not in str(fault):
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Ending:
    """How a rank ended that did not finish; `failure` is torch's account of it, `folder` has the rank's own."""

    rank: int
    failure: Any
    folder: Path
    was_stopped: bool

    @property
    def code(self) -> int:
        return int(self.failure.exitcode)

    @property
    def log(self) -> Path:
        return self.folder / "stderr.log"

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""

    @property
    def spoken(self) -> str | None:
        """Its own words for its failure, where it has some."""
        start = SPOKEN.get(self.code)
        found = [line for line in self.text.splitlines() if start and line.startswith(start)]
        return found[-1].removeprefix("error: ") if found else None

    @property
    def hung(self) -> str | None:
        """For how long and where, if it ended itself because it hung."""
        begin = self.text.rfind("Timeout (")
        if begin < 0 or self.code != 1:
            return None
        head, *stack = self.text[begin:].rpartition("Thread 0x")[2].splitlines()  # the main thread comes last
        ours = next((line.strip() for line in stack if "/harness/" in line), head)
        return f"{self.text[begin:].partition('(')[2].partition(')')[0]} ({ours})"

    @property
    def where(self) -> str:
        path = self.folder / PHASE
        return f"rank {self.rank} in phase {path.read_text(encoding='utf-8') if path.is_file() else 'start'}"


def first_fault(endings: list[Ending], is_memory: bool, requested: str | None) -> RanksFailed:
    """The failure that the others followed from: a rank that stood still, else the first that is no victim."""
    first = min(
        endings,
        key=lambda one: (not one.was_stopped, not one.hung, one.code in VICTIMS, one.failure.timestamp, one.rank),
    )
    if first.was_stopped or first.hung:
        stood = first.hung or "half of --phase_deadline_s (stopped by a signal)"
        advice = f"see that rank's host, or raise --phase_deadline_s; its log: {first.log}"
        return RanksFailed(f"{first.where} showed no progress for {stood}: {advice}", 1)
    if first.spoken is not None:
        named = f"rank {first.rank}: " if first.rank and first.code == 1 else ""
        return RanksFailed(f"{named}{first.spoken}", first.code, is_final=first.code != Stopped.exit_code)
    if requested and first.code in VICTIMS:
        return RanksFailed(f"stopped by {requested} before the first step", Stopped.exit_code)
    if first.code < 0:
        besides = f"; out of memory: {ADVICE}" if is_memory and first.code == -signal.SIGKILL else ""
        return RanksFailed(f"{first.where} was killed by {signal.Signals(-first.code).name}{besides}", 128 - first.code)
    if first.code == PeerLost.exit_code:
        return RanksFailed(f"{first.where} lost the others: see its log: {first.log}", 1)
    words = (first.text.strip().splitlines() or ["without a word"])[-1].removeprefix(f"[rank{first.rank}]: ")
    return RanksFailed(f"{first.where} failed: {words}; its log: {first.log}", first.code, is_final=True)
