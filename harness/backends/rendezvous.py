"""How the ranks of a run find each other, listening only where the other ranks must reach them.

On one host they meet in a file, or at a loopback address where another launcher started them, and gloo and NCCL listen
on the loopback interface. On several hosts the store listens on MASTER_ADDR's own address alone, and gloo on the
interface that reaches it. An interface that the user names (GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME) is left as it is.
"""

import ipaddress
import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil
from torch.distributed import DistError, FileStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from harness.errors import HarnessError, UsageError, first_line

STORE = "HARNESS_STORE"  # names the file where the ranks of one host meet; the launcher sets it, a new one each start
NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
POLL_S = 0.2
MEETING_S = 600.0  # between the starts of the first rank and of the last
LOOPBACK = "127.0.0.1"
ADVICE = "start every rank, as torchrun does, or unset RANK and WORLD_SIZE and the command starts its ranks itself"
BACKLOG = 1024  # ranks that may come at the same moment


@dataclass(frozen=True)
class Place:
    """This process's rank, and where the ranks meet."""

    rank: int
    world: int
    address: str  # MASTER_ADDR
    port: int
    is_one_host: bool | None = None  # whether all ranks are on this host; None: the environment does not say

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.world}"

    @property
    def has_agent(self) -> bool:
        """Whether torchrun's own process keeps the store."""
        return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"

    @property
    def meeting(self) -> str:
        """The address of the store."""
        if self.is_one_host and not self.has_agent and not is_loopback(self.address):
            return LOOPBACK
        return self.address


def own_place() -> Place:
    """This process's place, from torch's environment variables. Raises UsageError where they name none."""
    given = {name: os.environ[name] for name in NAMES if os.environ.get(name)}
    rank, world, port = (int(given[name]) if given.get(name, "").isdecimal() else -1 for name in (*NAMES[:2], NAMES[3]))
    address = given.get("MASTER_ADDR", "")
    if not (0 <= rank < world and address and 0 < port < 2**16):
        said = " ".join(f"{name}={value}" for name, value in given.items()) or "none of them"
        raise UsageError(
            f"expected RANK below WORLD_SIZE, MASTER_ADDR and MASTER_PORT in a rank's environment, got {said}: {ADVICE}"
        )
    local_world = os.environ.get("LOCAL_WORLD_SIZE")
    is_one_host = True if is_loopback(address) else None if local_world is None else local_world == str(world)
    return Place(rank, world, address, port, is_one_host)


def check_world_size(nproc: int) -> None:
    """Raise UsageError where the environment names no rank of a run with so many ranks on each host."""
    if (world := own_place().world) < nproc:
        raise UsageError(f"expected WORLD_SIZE of --nproc {nproc} or more, got {world}: {ADVICE}")


def is_loopback(address: str) -> bool:
    """Whether only this host can reach the address; False for a name other than localhost, wherever it leads."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def meet(place: Place) -> Store:
    """The store through which the ranks find each other.

    Raises UsageError where MASTER_ADDR is of no use, and HarnessError where the others do not come.
    """
    if path := os.environ.get(STORE):
        return FileStore(path, place.world)
    serves = place.rank == 0 and not place.has_agent
    if not serves:
        wait_for_server(place)
    try:
        store = TCPStore(
            place.meeting,
            place.port,
            place.world,
            is_master=serves,
            timeout=timedelta(seconds=MEETING_S),
            master_listen_fd=listening(place).detach() if serves else None,
        )
    except DistError as error:
        raise not_met(place, error) from None
    return PrefixStore("harness", store)


def wait_for_server(place: Place) -> None:
    """Until somebody listens at the meeting: torch's own client, while it waits, fills stderr with frames of C++."""
    deadline = time.monotonic() + MEETING_S
    while True:
        try:
            socket.create_connection((place.meeting, place.port), timeout=10.0).close()
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() > deadline:
                raise not_met(place, error) from None
        time.sleep(POLL_S)


def not_met(place: Place, error: Exception) -> HarnessError:
    """The error of a rank whose peers never came."""
    return HarnessError(
        f"{place}: expected the others at {place.meeting}:{place.port} within {MEETING_S:.0f} s, got "
        f"{first_line(error).rstrip('.')!r}: {ADVICE}"
    )


def listening(place: Place) -> socket.socket:
    """A socket that listens on the meeting's address alone. Raises UsageError where that is not to be had."""
    fault = "other hosts cannot reach it"
    for family, address in addresses(place.meeting, place.port):
        if is_loopback(address[0]) and place.is_one_host is False:
            continue  # a host's own name may lead to 127.0.1.1 on that host
        try:
            return socket.create_server(address, family=family, backlog=BACKLOG)
        except OSError as error:
            fault = os.strerror(error.errno or 0)
    raise UsageError(
        f"expected MASTER_ADDR to be an address of rank 0's host and MASTER_PORT to be free there, got {place.meeting} "
        f"and {place.port} ({fault}): give the address by which the other hosts reach it"
    )


def addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """The family and socket address of each address of a host, loopbacks last. Raises UsageError where it has none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"expected MASTER_ADDR to be a host's name or address, got {host!r} ({error}): correct it"
        ) from None
    return sorted(((family, address) for family, *_, address in found), key=lambda one: is_loopback(one[1][0]))


def choose_interfaces(place: Place) -> None:
    """Have gloo, and on one host NCCL, listen on one interface alone: loopback, or the one that reaches MASTER_ADDR."""
    name = interface_to(LOOPBACK if place.is_one_host else place.address)
    if name is None:
        return
    os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    if place.is_one_host:  # between hosts NCCL may well spread its traffic over several
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # exactly this one, where a bare name is a prefix


def interface_to(host: str) -> str | None:
    """This host's interface on the way to another, or to itself; None where there is no way."""
    for family, address in addresses(host, 1):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(address)  # of a datagram socket: this looks up the route and sends nothing
            except OSError:
                continue
            own = str(probe.getsockname()[0])
        for name, found in psutil.net_if_addrs().items():
            if own in [one.address for one in found]:
                return str(name)
    return None
