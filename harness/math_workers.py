"""A pool of processes that compare answers and can be killed: one that hangs or crashes costs its answer's limit.

Each is a fresh Python that runs math_worker.py: no fork of a process that holds torch, no import of it. One more than
may be busy is kept, so that the next answer need not wait until a killed one is replaced. All end with the end of their
input, so also when this process is killed; a busy one by its limit of CPU time.
"""

import contextlib
import json
import math
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from harness.errors import HarnessError
from harness.grades import Outcome

WORKER = Path(__file__).with_name("math_worker.py")
START_S = 120.0  # for one to be ready, on a machine busy with other things
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


class MathWorkers:
    """`busy` answers are compared at a time, each within `limit_s` seconds on the clock."""

    def __init__(self, busy: int = 2, limit_s: float = 1.0, worker: Path = WORKER) -> None:
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
            [sys.executable, "-P", str(self.worker), str(math.ceil(self.limit_s))],
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
        verdicts: dict[int, Verdict] = {}
        waiting = deque(range(len(pairs)))
        try:
            while len(verdicts) < len(pairs):
                self.hand_out(pairs, waiting)
                self.listen(verdicts)
                self.kill_late(verdicts)
        finally:  # a reply that nobody waits for any more must not reach the next batch
            for worker in self.workers:
                if worker.job is not None:
                    self.replace(worker)
        return [verdicts[job] for job in range(len(pairs))]

    def hand_out(self, pairs: Sequence[tuple[str, str]], waiting: deque[int]) -> None:
        """Gives waiting pairs to workers that are ready, as many as may be busy."""
        free = [worker for worker in self.workers if worker.ready and worker.job is None]
        busy = sum(worker.job is not None for worker in self.workers)
        for worker in free[: self.busy - busy]:
            if waiting:
                try:
                    worker.requests.write(json.dumps(pairs[waiting[0]]).encode() + b"\n")
                    worker.requests.flush()
                except BrokenPipeError:  # it died idle: no fault of this pair
                    self.replace(worker)
                else:
                    worker.job, worker.deadline = waiting.popleft(), time.monotonic() + self.limit_s

    def listen(self, verdicts: dict[int, Verdict]) -> None:
        """Takes in what workers say, until the first deadline at most."""
        first = min(worker.deadline for worker in self.workers)
        patience = None if first == math.inf else max(first - time.monotonic(), 0)
        for key, _ in self.selector.select(patience):
            worker, line = key.data, key.data.replies.readline()
            if not line:
                self.lose(worker, "crash", verdicts)
            elif not worker.ready:
                worker.ready, worker.deadline, self.failed_starts = True, math.inf, 0
            else:
                outcome, why = verdicts[worker.job] = tuple(json.loads(line))
                worker.job, worker.deadline = None, math.inf
                if outcome == "unchecked" and why == "memory":
                    self.replace(worker)

    def kill_late(self, verdicts: dict[int, Verdict]) -> None:
        """Ends what has run beyond its limit and has not answered."""
        for worker in self.workers:
            if worker.deadline <= time.monotonic():
                self.lose(worker, "time", verdicts)

    def lose(self, worker: Worker, why: str, verdicts: dict[int, Verdict]) -> None:
        """Replaces a worker whose answer, if it had one, stays unchecked."""
        if worker.job is not None:
            verdicts[worker.job] = "unchecked", why
            worker.job = None
        self.replace(worker)
