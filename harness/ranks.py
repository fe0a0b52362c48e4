"""The processes that train one run together, and what they tell each other."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from harness.liveness import waiting

T = TypeVar("T")

PEER = re.compile(r"gloo|NCCL|TCPStore|Connection (reset|closed)", re.IGNORECASE)
PATIENCE = 2.0  # of a collective, in deadlines: the launcher names who stands still before the others give up


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run. Alone by default; then nothing here communicates."""

    rank: int = 0
    world: int = 1
    group: Any = None  # of gloo, whatever carries the gradients: what is told here lies in the host's memory

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes the run's folder."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's part: every `world`-th item."""
        return list(items[self.rank :: self.world])

    def merged(self, own: Sequence[T]) -> list[T]:
        """All items in their order, from the ranks' shares of them."""
        shares = self.gather(list(own))
        return [shares[place % self.world][place // self.world] for place in range(sum(map(len, shares)))]

    def gather(self, own: T) -> list[T]:
        """What each rank has, in the order of the ranks."""
        if self.world == 1:
            return [own]
        found: list[Any] = [None] * self.world
        with waiting():
            distributed.all_gather_object(found, own, group=self.group)
        return found

    def sum(self, own: Tensor) -> Tensor:
        """The sum over the ranks, on the tensor's own device."""
        if self.world == 1:
            return own
        total = own.detach().cpu().clone()
        with waiting():
            distributed.all_reduce(total, group=self.group)
        return total.to(own.device)

    def first_said(self, own: str | None) -> str | None:
        """What the first rank that has something to say says."""
        return next((said for said in self.gather(own) if said is not None), None)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            with waiting():
                distributed.barrier(group=self.group)


ALONE = Ranks()


def join_ranks(deadline_s: float) -> Ranks:
    """The ranks that torch's environment variables name (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, LOCAL_RANK).

    What waits for another rank for two deadlines fails.
    """
    timeout = timedelta(seconds=PATIENCE * deadline_s)
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timeout)
    group = distributed.new_group(backend="gloo", timeout=timeout)
    return Ranks(distributed.get_rank(), distributed.get_world_size(), group)


def is_peer_lost(error: BaseException) -> bool:
    """Whether a collective failed because another rank did not take part."""
    known = isinstance(error, distributed.DistError)
    return known or (isinstance(error, RuntimeError) and bool(PEER.search(str(error))))


def local_rank() -> int:
    """Which of this host's processes this is."""
    return int(os.environ.get("LOCAL_RANK", "0"))
