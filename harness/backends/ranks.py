"""The ranks of a run and their collectives, which exchange tensors, arrays and JSON but never pickles.

Anyone who can connect to a rank can therefore send it wrong numbers, but not code.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json
from torch import Tensor, distributed

from harness.backends.phases import waiting
from harness.backends.rendezvous import choose_interfaces, meet, own_place, take_gpu
from harness.console import be_silent
from harness.errors import HarnessError, PeerLost, first_line

T = TypeVar("T")
N = TypeVar("N", int, float)

PEER = re.compile(r"gloo|NCCL|TCPStore|Connection (reset|closed)", re.IGNORECASE)
SOURCE = re.compile(r"^\[[^\]]*\] *")  # where in gloo's source an error was raised
PATIENCE = 2.0  # timeout of a collective in units of the deadline, so that a rank that hangs exits first


@dataclass(frozen=True)
class Ranks:
    """This process's rank and the number of ranks. With one rank, the default, no method communicates."""

    rank: int = 0
    world: int = 1
    group: Any = None  # always a gloo group, since everything sent here is in host memory

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes the run's folder."""
        return self.rank == 0

    def neighbours(self, size: int, deadline_s: float) -> "Ranks":
        """This rank among the `size` successive ranks of its group; `size` must divide their number. Collective."""
        if size == 1 or self.world == 1:
            return ALONE
        group, _ = distributed.new_subgroups(size, timeout=PATIENCE * timedelta(seconds=deadline_s), backend="gloo")
        return Ranks(self.rank % size, size, group)

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's share of the items: every `world`-th one, starting at `rank`."""
        return list(items[self.rank :: self.world])

    def merged(self, own: list[T], kind: type[list[T]]) -> list[T]:
        """The items of all ranks, in their order before `share`. Collective."""
        return self.in_order(self.gather(own, kind))

    def in_order(self, shares: list[list[T]]) -> list[T]:
        """The items of every rank's share, in their order before `share`."""
        return [shares[place % self.world][place // self.world] for place in range(sum(map(len, shares)))]

    def gather(self, own: T, kind: type[T]) -> list[T]:
        """Every rank's value, in rank order. Collective. Raises HarnessError if a value is not of type `kind`."""
        if self.world == 1:
            return [own]
        return [read(bytes(part), kind) for part in self.gather_bytes(to_json(own))]

    def gather_array(self, own: "array[N]") -> "list[array[N]]":
        """Every rank's array of numbers, in rank order, in a few bytes a number. Collective."""
        return [array(own.typecode, bytes(part)) for part in self.gather_bytes(own.tobytes())]

    def gather_bytes(self, own: bytes) -> list[memoryview]:
        sent = torch.frombuffer(bytearray(own + b"\0"), dtype=torch.uint8)  # torch takes no empty buffer
        with collective():
            sizes = torch.cat(self.gathered(torch.tensor([len(sent)]))).tolist()
            padded = self.gathered(torch.nn.functional.pad(sent, (0, max(sizes) - len(sent))))
        return [part[: size - 1].numpy().data for part, size in zip(padded, sizes, strict=True)]

    def gathered(self, own: Tensor) -> list[Tensor]:
        """Every rank's tensor; all must have the same shape and dtype. Collective."""
        found = [torch.empty_like(own) for _ in range(self.world)]
        distributed.all_gather(found, own, group=self.group)
        return found

    def sum(self, own: Tensor) -> Tensor:
        """The sum over the ranks, on the tensor's device. Collective."""
        if self.world == 1:
            return own
        total = own.detach().cpu().clone()
        with collective():
            distributed.all_reduce(total, group=self.group)
        return total.to(own.device)

    def first_message(self, own: str | None) -> str | None:
        """The message of the first rank that has one, or None. Collective."""
        return next(chain(*self.gather([] if own is None else [own], list[str])), None)

    def wait(self) -> None:
        """Wait until every rank has called this."""
        if self.world > 1:
            with collective():
                distributed.barrier(group=self.group)


ALONE = Ranks()


@contextmanager
def collective() -> Iterator[None]:
    """Context for an operation that all ranks take part in. Raises PeerLost if another rank is gone."""
    with waiting():
        try:
            yield
        except RuntimeError as error:
            raise peer_lost(error) or error from None


def read(content: bytes, kind: type[T]) -> T:
    """The value that the sender passed to `to_json`, bit for bit. Raises HarnessError if it is not of type `kind`.

    JSON keys are strings, so of a dictionary with other keys send the items.
    """
    try:
        value: T = TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        raise HarnessError(
            f"expected another rank to send {kind}, got {error.error_count()} values that do not fit, such as "
            f"{error.errors()[0]['msg']!r}: check that all hosts have the same checkout"
        ) from None
    return value


def join_ranks(deadline_s: float, is_gpu: bool) -> Ranks:
    """Join the group described by torchrun's environment variables. All ranks but the first stop printing.

    A collective fails when it has waited for another rank for PATIENCE deadlines.
    """
    timeout = timedelta(seconds=PATIENCE * deadline_s)
    with collective():
        if not distributed.is_initialized():
            connect(timeout, is_gpu)
        group = distributed.new_group(backend="gloo", timeout=timeout)
    return Ranks(distributed.get_rank(), distributed.get_world_size(), group)


def connect(timeout: timedelta, is_gpu: bool) -> None:
    place = own_place()
    if place.rank > 0:
        be_silent()
    if is_gpu:
        take_gpu()
    store = meet(place)
    store.set_timeout(timeout)
    choose_interfaces(place)
    backend = "nccl" if is_gpu else "gloo"
    distributed.init_process_group(backend, store=store, rank=place.rank, world_size=place.world, timeout=timeout)


def peer_lost(error: BaseException) -> PeerLost | None:
    """The error of a collective that failed because another rank did not take part; None for any other error."""
    if isinstance(error, PeerLost):
        return error
    is_known = isinstance(error, distributed.DistError)
    if not is_known and not (isinstance(error, RuntimeError) and PEER.search(str(error))):
        return None
    return PeerLost(f"another rank is gone: {SOURCE.sub('', first_line(error))}")
