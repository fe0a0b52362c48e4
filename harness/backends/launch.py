"""`--nproc N`: runs a command as N ranks on this host, and reports in one line which rank failed and why.

Several hosts are torchrun's job. It would also work on one, but its store listens on every interface.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.backends.phases import ERROR_FILE, LAUNCHER, PHASE, REASON
from harness.backends.rendezvous import LOOPBACK, STORE, free_port
from harness.backends.signals import STOPPING, stop_requests
from harness.config.schema import Config
from harness.errors import MEMORY_ADVICE, OutOfMemory, PeerLost, RanksFailed, Stopped, UsageError, memory_kills

POLL_S = 0.2
GRACE_S = 5.0  # for the other ranks to end once one has failed
Rank = subprocess.Popen[bytes]  # a rank's process, which leads a process group
LOG = "stderr.log"  # in a rank's folder
SPOKEN = {1: "error: ", UsageError.exit_code: "error: ", Stopped.exit_code: "stopped by "}  # start of a rank's message
VICTIMS = (PeerLost.exit_code, -signal.SIGABRT, -signal.SIGTERM)  # ended because another rank failed
STOPPED = tuple(-number for number in STOPPING)  # by a signal that came before the rank could save


def launch(config: Config, words: list[str]) -> None:
    """Run `python WORDS` as the config's `nproc` ranks and wait until they have finished.

    Raises RanksFailed with the failed rank's exit code and a one-line message. The folder with the ranks' logs is
    deleted unless the message refers to one of them.
    """
    folder, kills = Path(tempfile.mkdtemp(prefix="fipo-harness-")), memory_kills()
    fault = None
    try:
        with stop_requests() as requested, started(config, words, folder) as ranks:
            failed = watch(ranks, requested)
        if failed:
            endings = [ending_of(rank, ranks[rank].returncode, folder / str(rank)) for rank in failed]
            fault = first_fault(endings, memory_kills() > kills, requested())
            raise fault
    finally:
        if str(folder) not in str(fault):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(config: Config, words: list[str], folder: Path) -> Iterator[list[Rank]]:
    """The running ranks, in order; afterwards nothing that they have started is left. Only the first has a stdout."""
    count, ranks = config.backend.nproc, list[Rank]()
    shared = {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": os.environ.get("MASTER_PORT") or str(free_port())}
    shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": str(config.run.threads)}
    shared |= {STORE: str(folder / "store"), LAUNCHER: str(os.getpid())}
    try:
        for rank in range(count):
            own = folder / str(rank)
            own.mkdir()
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), ERROR_FILE: str(own / "error.json")}
            with (own / LOG).open("wb") as log:
                command, stdout = [sys.executable, "-u", *words], subprocess.DEVNULL if rank else None
                environment = os.environ | shared | place
                ranks.append(Rank(command, env=environment, stdout=stdout, stderr=log, start_new_session=True))
        yield ranks
    finally:
        for one in ranks:
            send(one, signal.SIGKILL)
            one.wait()


def send(rank: Rank, number: int) -> None:
    """Send a signal to the rank and to the processes that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(rank.pid, number)


def watch(ranks: list[Rank], requested: Callable[[], str | None]) -> list[int]:
    """Wait until all ranks have finished, or one has failed and the others are ended.

    Returns the ranks that failed: those seen first, then those that failed as they were ended. requested: returns the
    name of a stop signal once one has arrived, which is passed on.
    """
    failed, has_passed_on, is_over = list[int](), False, False
    while not failed and not is_over:
        time.sleep(POLL_S)
        is_over = all(rank.poll() is not None for rank in ranks)  # before it is seen which of them failed
        if not has_passed_on and (name := requested()):
            for rank in ranks:
                send(rank, signal.Signals[name])
            has_passed_on = True
        failed = [place for place, rank in enumerate(ranks) if rank.poll()]
    if not failed:
        return []
    running = [rank for rank in ranks if rank.poll() is None]
    for rank in running:
        send(rank, signal.SIGTERM)
    last = time.monotonic() + GRACE_S
    for rank in running:
        with suppress(subprocess.TimeoutExpired):
            rank.wait(max(0.0, last - time.monotonic()))
        send(rank, signal.SIGKILL)
    return failed + [place for place, rank in enumerate(ranks) if rank.wait() and place not in failed]


@dataclass(frozen=True)
class Ending:
    """How a rank ended that did not finish, and the files that it left behind."""

    rank: int
    code: int  # exit code; below 0, the number of the signal that killed it
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
        _, timeout, dump = self.text.rpartition("Timeout (")
        if not timeout or self.code != 1:
            return None
        stack = dump.rpartition("Thread 0x")[2].splitlines()  # faulthandler prints the main thread last
        ours = next((line.strip() for line in stack if "/harness/" in line), stack[0])
        return f"{dump.partition(')')[0]} ({ours})"


def ending_of(rank: int, code: int, folder: Path) -> Ending:
    """The ending of a rank with this exit code, from the files in its folder."""
    phase, reason = (
        path.read_text(encoding="utf-8") if path.is_file() else "" for path in (folder / PHASE, folder / REASON)
    )
    text = (folder / LOG).read_text(encoding="utf-8", errors="replace")
    return Ending(rank, code, phase or "start", folder / LOG, text, reason.strip() or None)


def first_fault(endings: list[Ending], is_memory: bool, requested: str | None) -> RanksFailed:
    """The failure that caused the others: a rank that hung, else the first that was not a victim of another rank.

    endings: of the ranks that failed, in the order in which they did.
    """
    first = min(endings, key=lambda one: (not one.hung, one.code in VICTIMS))
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
