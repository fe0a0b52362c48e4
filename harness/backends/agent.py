"""torchrun's agent for `--nproc`: starts the ranks of this host, watches them, and ends all when one fails.

It is torch's own, in this process, with two differences: it listens nowhere (torchrun's store does on every interface,
and its c10d rendezvous unpickles what comes), and it kills a rank that cannot watch itself because it was stopped.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from harness.backends.phases import LAUNCHER
from harness.backends.rendezvous import LOOPBACK, STORE, free_port

POLL_S = 0.2


class OneNode(RendezvousHandler):
    """The rendezvous of a single node, with itself and in memory."""

    use_agent_store = False

    def get_backend(self) -> str:
        return "one-node"

    def get_run_id(self) -> str:
        return "run"

    def next_rendezvous(self) -> RendezvousInfo:
        port = int(os.environ.get("MASTER_PORT") or free_port())
        return RendezvousInfo(HashStore(), 0, 1, RendezvousStoreInfo(LOOPBACK, port))

    def num_nodes_waiting(self) -> int:
        return 0

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        pass

    def shutdown(self) -> bool:
        return True


class Agent(LocalElasticAgent):
    """`stopped` has the processes that it killed because a signal such as SIGSTOP kept them from running."""

    def __init__(
        self, spec: WorkerSpec, logs: DefaultLogsSpecs, deadline_s: float, requested: Callable[[], str | None]
    ):
        super().__init__(spec, logs, shutdown_timeout=0)
        self.patience_s = deadline_s / 2  # sooner than the ranks that wait for it lose theirs
        self.requested, self.has_passed_on = requested, False
        self.still: dict[int, float] = {}
        self.stopped: set[int] = set()

    @property
    def pids(self) -> list[int]:
        return [int(worker.id) for worker in self.get_worker_group().workers if worker.id]

    def send(self, number: int) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.killpg(pid, number)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        name = self.requested()
        if name and not self.has_passed_on:
            self.send(signal.Signals[name])
            self.has_passed_on = True
        self.end_stopped()
        result: RunResult = super()._monitor_workers(worker_group)
        return result

    def end_stopped(self) -> None:
        now = time.monotonic()
        for pid in self.pids:
            if not is_stopped(pid):
                self.still.pop(pid, None)
            elif now - self.still.setdefault(pid, now) > self.patience_s:
                self.stopped.add(pid)
                os.kill(pid, signal.SIGKILL)


def make_agent(
    count: int, words: Sequence[str], folder: Path, deadline_s: float, requested: Callable[[], str | None]
) -> Agent:
    """The agent of `count` ranks, each `python WORDS`. The first one prints; what the others print is in `folder`."""
    logging.disable()  # what the agent would say is said in one line in the end
    os.environ |= {
        STORE: str(folder / "store"),
        LAUNCHER: str(os.getpid()),
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGQUIT",
    }
    logs = DefaultLogsSpecs(str(folder), {rank: Std.ALL if rank else Std.ERR for rank in range(count)})
    spec = WorkerSpec(
        role="rank",
        local_world_size=count,
        entrypoint=sys.executable,
        args=("-u", *words),
        rdzv_handler=OneNode(),
        max_restarts=0,
        monitor_interval=POLL_S,
    )
    return Agent(spec, logs, deadline_s, requested)


def is_stopped(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
