"""Leases: a file per resource, which names its holder and what runs on it; a dead holder loses it.

A lease appears whole (written beside, then linked) and is taken from a dead holder by one rename, which only one of
those who try can make.
"""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.workers.holders import Holder, ask_to_end, end_session

UNRENEWED_S = 120.0  # of a lease of another host, after which its holder is taken for dead
GRACE_S = 30.0  # for a run whose controller died to save and end


@dataclass
class Lease:
    """A hold on the resource that the file stands for."""

    path: Path
    holder: Holder
    content: dict[str, Any] = field(default_factory=dict)

    def note(self, **content: Any) -> None:
        """Write down what runs on the resource now."""
        self.content = content
        write_beside(self.path, self.holder, content).replace(self.path)

    def renew(self) -> None:
        """Show other hosts, which cannot ask whether the holder lives, that it does."""
        with suppress(OSError):
            os.utime(self.path)

    def release(self) -> None:
        """Give the resource back, unless another has taken it."""
        if holder_of(self.path) == self.holder:
            self.path.unlink(missing_ok=True)


def acquire(path: Path) -> Lease | None:
    """The lease, or None while its holder lives. What a dead holder left running on it is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Holder.this()
    while True:
        beside = write_beside(path, holder, {})
        try:
            os.link(beside, path)
            return Lease(path, holder)
        except FileExistsError:
            if not take_from_the_dead(path):
                return None
        finally:
            beside.unlink(missing_ok=True)


def take_from_the_dead(path: Path) -> bool:
    """Whether the lease may be tried for again: its holder is dead, and what it ran has ended."""
    content = read_lease(path)
    holder = Holder.read(content.get("holder"))
    if not may_be_taken(path):
        return False
    taken = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(taken)
    except FileNotFoundError:
        return True
    if Holder.read(read_lease(taken).get("holder")) != holder:  # another was quicker, and this lease is its new one
        os.link(taken, path)
        taken.unlink()
        return False
    if job := content.get("job"):
        cancel_job(str(job), wait_s=60.0)
    runner = Holder.read(content.get("runner"))
    if runner is not None and runner.is_here:
        ask_to_end(runner)
        end_session(runner, GRACE_S if runner.lives() else 0.0)
    taken.unlink()
    return True


def cancel_job(job: str, wait_s: float) -> None:
    """Cancel a SLURM job, and wait until SLURM does not list it any more."""
    deadline = time.monotonic() + wait_s
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(["scancel", job], capture_output=True, timeout=60, check=False)
        while time.monotonic() < deadline:
            listed = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, timeout=60, check=False)
            if not listed.stdout.strip():
                return
            time.sleep(1.0)


def may_be_taken(path: Path) -> bool:
    """Whether the lease's holder is dead: asked of its own host and boot, seen by others from a lease not renewed."""
    holder = holder_of(path)
    if holder is None or holder.is_here:
        return holder is None or not holder.lives()
    try:
        return time.time() - path.stat().st_mtime > UNRENEWED_S
    except FileNotFoundError:
        return True


def holder_of(path: Path) -> Holder | None:
    """Who holds the lease, or None."""
    return Holder.read(read_lease(path).get("holder"))


def read_lease(path: Path) -> Mapping[str, Any]:
    """What the lease says; nothing where it is gone or was damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, Mapping) else {}


def write_beside(path: Path, holder: Holder, content: Mapping[str, Any]) -> Path:
    """The lease's file, under another name."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    with beside.open("x", encoding="utf-8") as file:
        json.dump({"holder": holder.written(), **content}, file)
        file.flush()
        os.fsync(file.fileno())
    return beside
