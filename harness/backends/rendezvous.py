"""How the ranks of a run find each other, without listening on more network interfaces than necessary.

They meet through a file, or through the store of the user's torchrun. On a single host gloo and NCCL listen on the
loopback interface. On several hosts gloo listens on the interface that reaches MASTER_ADDR. GLOO_SOCKET_IFNAME and
NCCL_SOCKET_IFNAME take precedence.
"""

import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

STORE = "HARNESS_STORE"  # environment variable: the file through which ranks of `--nproc` meet, private to this user
MEETING = timedelta(minutes=10)  # how long the first rank to arrive waits for the last
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """This process's place among the ranks of a run, as torchrun's environment variables give it."""

    rank: int
    world: int  # number of ranks
    local: int  # number of ranks on this host
    address: str  # of rank 0's host
    is_one_host: bool  # whether all ranks are on this host


def own_place() -> Place:
    """This process's place, from torchrun's environment variables. Raises UsageError if torchrun did not set them."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    rank, world, local = (int(text) if (text := os.environ.get(name, "")).isdecimal() else -1 for name in names)
    has_store = STORE in os.environ or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not (0 <= rank < world and has_store):
        given = " ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ)
        raise UsageError(
            f"expected RANK below WORLD_SIZE and a store, as torchrun sets them for each rank, got {given}: start the "
            "ranks with torchrun, or unset RANK and WORLD_SIZE and let --nproc start them"
        )
    address = os.environ.get("MASTER_ADDR", LOOPBACK)
    return Place(rank, world, local, address, is_one_host=local == world or is_loopback(address))


def take_gpu() -> None:
    """Use the GPU numbered LOCAL_RANK. Raises UsageError if this host has fewer GPUs than processes of the run."""
    import torch

    processes, count = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if processes > count:
        raise UsageError(
            f"expected a GPU for each of the {processes} processes on this host, got {count}: lower --nproc, or pass "
            "--device cpu"
        )
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def meet(place: Place) -> "Store":
    """The store through which the ranks find each other; returns once all ranks have arrived."""
    from torch.distributed import FileStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    if STORE in os.environ:
        store: Store = FileStore(os.environ[STORE], place.world)
    else:
        store, *_ = next(rendezvous("env://", place.rank, place.world, timeout=MEETING))
    store.set(f"harness/{place.rank}", "here")
    store.wait([f"harness/{rank}" for rank in range(place.world)], MEETING)
    return store


def is_loopback(address: str) -> bool:
    """Whether the address is a loopback address or "localhost". Other host names are not resolved: False."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def choose_interfaces(place: Place) -> None:
    """Make gloo, and on a single host NCCL, listen on one interface only: loopback, or the one towards MASTER_ADDR."""
    name = interface_to(LOOPBACK if place.is_one_host else place.address)
    if name is None:
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    if place.is_one_host:  # between hosts NCCL should be free to use several interfaces
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # "=": an exact name, not a prefix


def interface_to(host: str) -> str | None:
    """The network interface from which the host is reached; None if there is no route."""
    import psutil

    for family, *_, address in socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM):
        if is_loopback(str(address[0])) and not is_loopback(host):
            continue  # on the host itself its own name may resolve to 127.0.1.1
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(address)  # on a datagram socket this looks up the route and sends nothing
            except OSError:
                continue
            own = str(probe.getsockname()[0])
        for name, found in psutil.net_if_addrs().items():
            if own in [one.address for one in found]:
                return str(name)
    return None


def free_port() -> int:
    """A port on the loopback interface that is currently free."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
