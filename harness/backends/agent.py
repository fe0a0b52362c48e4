"""torchrun's elastic agent for `--nproc`: starts the ranks on this host, and ends all of them when one fails.

It is torch's agent, run in this process, with two differences. It does not listen on the network, whereas torchrun's
store listens on every interface and its c10d rendezvous unpickles what it receives. And it kills a rank that has been
suspended by a signal (SIGSTOP), which cannot watch itself.
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
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

from harness.backends.phases import LAUNCHER
from harness.backends.rendezvous import LOOPBACK, STORE, free_port

POLL_S = 0.2
GRACE_S = 5  # for the other ranks to end once one has failed


class Agent(LocalElasticAgent):
    """Passes stop signals on to the ranks and kills suspended ranks.

    patience_s: how long a rank may stay suspended. requested: returns the name of a stop signal once one has arrived.
    `stopped` holds the pids of the suspended ranks that were killed.
    """

    def __init__(
        self, spec: WorkerSpec, logs: DefaultLogsSpecs, patience_s: float, requested: Callable[[], str | None]
    ):
        super().__init__(spec, logs, shutdown_timeout=0)
        self.patience_s, self.requested, self.has_passed_on = patience_s, requested, False
        self.still: dict[int, float] = {}
        self.stopped: set[int] = set()

    def send(self, number: int) -> None:
        """Send a signal to each rank and to the processes that it has started."""
        for worker in self.get_worker_group().workers:
            if worker.id:
                with suppress(ProcessLookupError):
                    os.killpg(int(worker.id), number)

    def _stop_workers(self, worker_group: WorkerGroup) -> None:  # noqa: ARG002
        self._shutdown(timeout=GRACE_S)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if not self.has_passed_on and (name := self.requested()):
            self.send(signal.Signals[name])
            self.has_passed_on = True
        for worker in worker_group.workers:
            with suppress(psutil.Error):
                self.end_if_stopped(psutil.Process(int(worker.id)))
        result: RunResult = super()._monitor_workers(worker_group)
        return result

    def end_if_stopped(self, process: psutil.Process) -> None:
        """Kill a rank that has been suspended (SIGSTOP) for longer than `patience_s`."""
        now = time.monotonic()
        if process.status() != psutil.STATUS_STOPPED:
            self.still.pop(process.pid, None)
        elif now - self.still.setdefault(process.pid, now) > self.patience_s:
            self.stopped.add(process.pid)
            process.kill()


def make_agent(
    count: int, words: Sequence[str], folder: Path, deadline_s: float, requested: Callable[[], str | None]
) -> Agent:
    """An agent that runs `python WORDS` as `count` ranks. Rank 0 prints to stdout; the others log to `folder`."""
    logging.disable()  # `launch` reports failures in one line instead
    os.environ |= {STORE: str(folder / "store"), LAUNCHER: str(os.getpid())}
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # we handle the other signals
    port = int(os.environ.get("MASTER_PORT") or free_port())
    one_node = StaticTCPRendezvous(LOOPBACK, port, rank=0, world_size=1, run_id="run", timeout=60)
    one_node._store = HashStore()  # in memory, instead of a TCP store that listens
    spec = WorkerSpec(
        role="rank",
        local_world_size=count,
        entrypoint=sys.executable,
        args=("-u", *words),
        rdzv_handler=one_node,
        max_restarts=0,
        monitor_interval=POLL_S,
    )
    logs = DefaultLogsSpecs(str(folder), {rank: Std.ALL if rank else Std.ERR for rank in range(count)})
    return Agent(spec, logs, deadline_s / 2, requested)  # half, so that it acts before the other ranks time out
