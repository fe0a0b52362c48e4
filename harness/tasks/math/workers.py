"""A pool of processes that compare answers, each answer within a limit of CPU time: one that hangs costs that much.

The limit is CPU time so that a busy machine gives the same verdicts as an idle one; the clock only ends a process that
sleeps. An answer whose process crashed or was killed is tried once more before it is called unchecked.

Each is a fresh Python that runs math_worker.py: no fork of a process that holds torch, no import of it. One more than
may be busy is kept, so that the next answer need not wait until a killed one is replaced. All end with the end of their
input, so also when this process is killed; a busy one by its limit of CPU time.
"""

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from harness.errors import HarnessError
from harness.tasks.grades import Outcome

WORKER = Path(__file__).with_name("worker.py")
CPU_S = 5.0  # of CPU time for an answer; all but hostile ones take less than a tenth of a second
# On the clock, until one is ready and until it answers: what takes longer is not busy but asleep.
START_S, REPLY_S = 600.0, 600.0
FAILED_STARTS = 3  # in a row; more means that no worker will ever start

Verdict = tuple[Outcome, str | None]


@dataclass(eq=False)
class Worker:
    """A process and what it does: `job` is the number of the request that it works on."""

    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    replies: IO[bytes]
    ready: bool = False
    job: int | None = None
    deadline: float = field(default_factory=lambda: time.monotonic() + START_S)


@dataclass
class Batch:
    """Pairs of gold and answer, by number: those that wait, those whose process was lost once, and the verdicts."""

    pairs: Sequence[tuple[str, str]]
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    waiting: deque[int] = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.pairs)))


class MathWorkers:
    """`busy` answers are compared at a time, each within `limit_s` seconds of CPU time."""

    def __init__(self, busy: int = 2, limit_s: float = CPU_S, worker: Path = WORKER) -> None:
        self.busy, self.limit_s, self.worker = busy, limit_s, worker
        self.failed_starts = 0
        self.selector = selectors.DefaultSelector()
        for _ in range(busy + 1):
            self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def workers(self) -> list[Worker]:
        """All that run, ready or not."""
        return [key.data for key in self.selector.get_map().values()]

    def close(self) -> None:
        """Ends all processes."""
        for worker in self.workers:
            self.end(worker)
        self.selector.close()

    def start(self) -> None:
        """Starts one more; it says later that it is ready."""
        process = subprocess.Popen(
            [sys.executable, "-P", str(self.worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"},  # the same verdict each time
            start_new_session=True,  # Ctrl-C is for the run, which ends at a step boundary
        )
        assert process.stdin is not None
        assert process.stdout is not None
        worker = Worker(process, process.stdin, process.stdout)
        self.selector.register(worker.replies, selectors.EVENT_READ, worker)

    def end(self, worker: Worker) -> None:
        """Kills one."""
        self.selector.unregister(worker.replies)
        worker.process.kill()
        worker.process.wait()
        worker.replies.close()
        with contextlib.suppress(BrokenPipeError):  # a request that it did not live to read
            worker.requests.close()

    def replace(self, worker: Worker) -> None:
        """Kills one and starts another in its place."""
        self.failed_starts += not worker.ready
        self.end(worker)
        if self.failed_starts > FAILED_STARTS:
            raise HarnessError(
                f"expected the checker of answers to start, it ended with code {worker.process.returncode}: "
                f"see what {sys.executable} {self.worker} says"
            )
        self.start()

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """The verdict of each (gold, answer)."""
        batch = Batch(pairs)
        try:
            while len(batch.verdicts) < len(pairs):
                self.hand_out(batch)
                self.listen(batch)
                self.end_sleeping(batch)
        finally:  # a reply that nobody waits for any more must not reach the next batch
            for worker in self.workers:
                if worker.job is not None:
                    self.replace(worker)
        return [batch.verdicts[job] for job in range(len(pairs))]

    def hand_out(self, batch: Batch) -> None:
        """Gives waiting pairs to workers that are ready, as many as may be busy."""
        free = [worker for worker in self.workers if worker.ready and worker.job is None]
        busy = sum(worker.job is not None for worker in self.workers)
        for worker in free[: self.busy - busy]:
            if batch.waiting:
                request = [*batch.pairs[batch.waiting[0]], self.limit_s]
                try:
                    worker.requests.write(json.dumps(request).encode() + b"\n")
                    worker.requests.flush()
                except BrokenPipeError:  # it died idle: no fault of this pair
                    self.replace(worker)
                else:
                    worker.job, worker.deadline = batch.waiting.popleft(), time.monotonic() + REPLY_S

    def listen(self, batch: Batch) -> None:
        """Takes in what workers say, until the first deadline at most."""
        first = min(worker.deadline for worker in self.workers)
        patience = None if first == math.inf else max(first - time.monotonic(), 0)
        for key, _ in self.selector.select(patience):
            worker, line = key.data, key.data.replies.readline()
            if not line:
                self.lose(worker, "crash", batch)
            elif not worker.ready:
                worker.ready, worker.deadline, self.failed_starts = True, math.inf, 0
            else:
                outcome, why = batch.verdicts[worker.job] = tuple(json.loads(line))
                worker.job, worker.deadline = None, math.inf
                if outcome == "unchecked" and why == "memory":
                    self.replace(worker)

    def end_sleeping(self, batch: Batch) -> None:
        """Ends what the clock has run out for."""
        for worker in self.workers:
            if worker.deadline <= time.monotonic():
                self.lose(worker, "no reply", batch)

    def lose(self, worker: Worker, why: str, batch: Batch) -> None:
        """Replaces a worker. Its answer, if it had one, is tried again, unless it used up its CPU time."""
        job, worker.job = worker.job, None
        self.replace(worker)
        if job is None:
            return
        if worker.process.returncode == -signal.SIGPROF:
            batch.verdicts[job] = "unchecked", "time"
        elif job in batch.lost:
            batch.verdicts[job] = "unchecked", why
        else:
            batch.lost.add(job)
            batch.waiting.append(job)
