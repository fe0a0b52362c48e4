"""Leases: a file per resource, which names its holder and what runs on it; a dead holder loses it.

A lease appears whole (written beside, then linked) and is taken from a dead holder by one rename, which only one of
those who try can make. They are for one host: processes of others cannot be asked whether they live.
"""

import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.holders import Holder, ask_to_end, end_session

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
    if holder is not None and holder.lives():
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
    runner = Holder.read(content.get("runner"))
    if runner is not None and runner.is_here:
        ask_to_end(runner)
        end_session(runner, GRACE_S if runner.lives() else 0.0)
    taken.unlink()
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
