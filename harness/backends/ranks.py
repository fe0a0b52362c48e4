"""The processes that train one run together, and what they tell each other: JSON and tensors, no pickles.

Anyone who can connect to a rank can send it wrong numbers, but not code.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from torch import Tensor, distributed

from harness.backends.phases import waiting
from harness.backends.rendezvous import choose_interfaces, meet, own_place
from harness.console import be_silent
from harness.errors import HarnessError

T = TypeVar("T")

PEER = re.compile(r"gloo|NCCL|TCPStore|Connection (reset|closed)", re.IGNORECASE)
PATIENCE = 2.0  # a collective's timeout in deadlines, so that the rank that hangs ends first


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

    def merged(self, own: list[T], kind: type[list[T]]) -> list[T]:
        """All items in their order, from the ranks' shares of them."""
        shares = self.gather(own, kind)
        return [shares[place % self.world][place // self.world] for place in range(sum(map(len, shares)))]

    def gather(self, own: T, kind: type[T]) -> list[T]:
        """What each rank has, in the order of the ranks; `kind` is its type, which what arrives must have.

        Raises HarnessError where it has not.
        """
        if self.world == 1:
            return [own]
        sent = torch.frombuffer(bytearray(to_json(own)), dtype=torch.uint8)
        with waiting():
            sizes = torch.cat(self.gathered(torch.tensor([len(sent)]))).tolist()
            padded = self.gathered(torch.nn.functional.pad(sent, (0, max(sizes) - len(sent))))
        return [read(part[:size].numpy().tobytes(), kind) for part, size in zip(padded, sizes, strict=True)]

    def gathered(self, own: Tensor) -> list[Tensor]:
        """The ranks' tensors, which have one shape and dtype."""
        found = [torch.empty_like(own) for _ in range(self.world)]
        distributed.all_gather(found, own, group=self.group)
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
        said = self.gather([] if own is None else [own], list[str])
        return next(chain(*said), None)

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            with waiting():
                distributed.barrier(group=self.group)


ALONE = Ranks()


def read(content: bytes, kind: type[T]) -> T:
    """A value of the type, bit for bit, from the JSON that `to_json` made of it. Raises HarnessError where it is none.

    Dictionaries keyed by tuples do not come back: send their items.
    """
    try:
        value: T = TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        raise HarnessError(
            f"expected another rank to send {kind}, got {error.error_count()} values that do not fit, such as "
            f"{error.errors()[0]['msg']!r}: see that all hosts have the same checkout"
        ) from None
    return value


def join_ranks(deadline_s: float) -> Ranks:
    """The ranks that torchrun's environment variables name. All but the first are silent from here on.

    A collective that waits for another rank for two deadlines fails.
    """
    timeout = timedelta(seconds=PATIENCE * deadline_s)
    if not distributed.is_initialized():
        place = own_place()
        if torch.cuda.is_available():
            torch.cuda.set_device(local_rank())
        store = meet(place)
        store.set_timeout(timeout)
        choose_interfaces(place)
        distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.world,
            timeout=timeout,
        )
        if place.rank > 0:
            be_silent()
    group = distributed.new_group(backend="gloo", timeout=timeout)
    return Ranks(distributed.get_rank(), distributed.get_world_size(), group)


def is_peer_lost(error: BaseException) -> bool:
    """Whether a collective failed because another rank did not take part."""
    known = isinstance(error, distributed.DistError)
    return known or (isinstance(error, RuntimeError) and bool(PEER.search(str(error))))


def local_rank() -> int:
    """Which of this host's processes this is."""
    return int(os.environ.get("LOCAL_RANK", "0"))
