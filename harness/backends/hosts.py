"""Where the ranks of a run are started: this host, those of a hostfile over ssh, or the nodes of a SLURM job.

Each rank is the run's own command again, told who it is by torch's environment variables. Hosts must see the checkout,
its .venv and the run's folder under the same paths.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli.parser import ROOT
from harness.config.scale import BackendSettings
from harness.config.schema import Config
from harness.errors import UsageError

HOST = re.compile(r"(?P<name>[A-Za-z0-9_.@-]+)(\s+slots=(?P<slots>[1-9]\d*))?")
PASSED_ON = (
    "FIPO_HARNESS_CACHE",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "NCCL_SOCKET_IFNAME",
    "GLOO_SOCKET_IFNAME",
)
FIRST_PORT, PORTS = 20000, 20000  # of SLURM jobs, by their number


@dataclass(frozen=True)
class RankStart:
    """What starts one rank: a command here or on a host, and what it finds in its environment besides."""

    rank: int
    host: str | None  # None: this one
    command: list[str]
    environment: dict[str, str]

    def words(self, more: Mapping[str, str]) -> list[str]:
        """The command as this host runs it; `more` is set there as well."""
        if self.host is None:
            return self.command
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | self.environment | dict(more)
        setting = shlex.join(f"{name}={value}" for name, value in passed.items())
        there = f"cd {shlex.quote(str(ROOT))} && exec env {setting} {shlex.join(self.command)}"
        return ["ssh", "-tt", "-o", "BatchMode=yes", self.host, there]

    @property
    def is_on_one_host(self) -> bool:
        """Whether this host starts all ranks of the run."""
        return self.host is None and self.environment["LOCAL_WORLD_SIZE"] == self.environment["WORLD_SIZE"]

    @property
    def line(self) -> str:
        """The same for people."""
        setting = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.environment.items())
        command = shlex.join(self.words({})) if self.host else f"env {setting} {shlex.join(self.command)}"
        return f"rank {self.rank} on {self.host or 'this host'}: {command}"


def rank_starts(config: Config, arguments: Sequence[str]) -> list[RankStart]:
    """What this process must start for a command `python -m harness ARGUMENTS`. Raises UsageError."""
    backend = config.backend
    if backend.hostfile:
        return on_hosts(read_hostfile(Path(backend.hostfile), backend.nproc), config, arguments)
    node, nodes = int(os.environ.get("SLURM_PROCID", "0")), int(os.environ.get("SLURM_NTASKS", "1"))
    if nodes > 1:
        check_slurm(backend)
        meeting = Meeting(nodes * backend.nproc, slurm_meeting())
        return starts(backend.nproc, node * backend.nproc, meeting, config, arguments)
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": os.environ.get("MASTER_PORT") or str(free_port())}
    return starts(backend.nproc, 0, Meeting(backend.nproc, here), config, arguments)


@dataclass(frozen=True)
class Meeting:
    """How many ranks meet, and where: MASTER_ADDR and MASTER_PORT."""

    world: int
    place: Mapping[str, str]


def starts(count: int, before: int, meeting: Meeting, config: Config, arguments: Sequence[str]) -> list[RankStart]:
    """The ranks of one host; `before` ranks lie on others."""
    command = [sys.executable, "-u", "-m", "harness", *arguments]
    common = dict(meeting.place) | {"WORLD_SIZE": str(meeting.world), "LOCAL_WORLD_SIZE": str(count)}
    common |= {"OMP_NUM_THREADS": str(config.run.threads)}
    return [
        RankStart(rank, None, command, common | {"RANK": str(rank), "LOCAL_RANK": str(rank - before)})
        for rank in range(before, before + count)
    ]


def on_hosts(hosts: list[tuple[str, int]], config: Config, arguments: Sequence[str]) -> list[RankStart]:
    """The ranks of all hosts, the first host's first; they meet at the first host."""
    first = hosts[0][0].rpartition("@")[2]
    place = {"MASTER_ADDR": first, "MASTER_PORT": os.environ.get("MASTER_PORT") or str(free_port())}
    meeting = Meeting(sum(slots for _, slots in hosts), place)
    found: list[RankStart] = []
    for host, slots in hosts:
        own = starts(slots, len(found), meeting, config, arguments)
        found += [RankStart(one.rank, host, one.command, one.environment) for one in own]
    return found


def read_hostfile(path: Path, nproc: int) -> list[tuple[str, int]]:
    """Hosts and how many ranks each takes, in the form of DeepSpeed's hostfile. Raises UsageError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--hostfile: expected a readable file, got {str(path)!r}: {error}") from None
    hosts: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = HOST.fullmatch(text)
        if match is None or match["name"].startswith("-") or match["name"] in hosts:
            raise UsageError(
                f"--hostfile: expected 'HOST' or 'HOST slots=N', each host once, got {line!r} on line {number}"
            )
        hosts[match["name"]] = int(match["slots"] or nproc)
    if not hosts:
        raise UsageError(f"--hostfile: expected a host on each line, got none in {str(path)!r}")
    return list(hosts.items())


def check_slurm(backend: BackendSettings) -> None:
    """Raise UsageError unless the job has one task per node: each starts its node's ranks."""
    tasks, nodes = os.environ.get("SLURM_NTASKS", "1"), os.environ.get("SLURM_JOB_NUM_NODES", "1")
    if tasks != nodes:
        raise UsageError(
            f"expected one task per node, which starts --nproc {backend.nproc} ranks there, got {tasks} tasks on "
            f"{nodes} nodes: srun --ntasks-per-node=1"
        )


def slurm_meeting() -> dict[str, str]:
    """Where the ranks of a SLURM job meet: its first node, at a port of the job's own; or as the environment says."""
    port = os.environ.get("MASTER_PORT") or str(FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", "0")) % PORTS)
    address = os.environ.get("MASTER_ADDR")
    if address is None:
        listed = ["scontrol", "show", "hostnames", os.environ.get("SLURM_JOB_NODELIST", "")]
        try:
            address = subprocess.run(listed, capture_output=True, text=True, check=True, timeout=60).stdout.split()[0]
        except (OSError, subprocess.SubprocessError, IndexError):
            raise UsageError("expected MASTER_ADDR, or scontrol to name the job's first node, got neither") from None
    return {"MASTER_ADDR": address, "MASTER_PORT": port}


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
