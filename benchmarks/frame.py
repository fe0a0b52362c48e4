"""What a benchmark found: figures beside a peer's and a limit, as one table, and kept as one record."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from harness.run.environment import cpu_name

LOAD = os.getloadavg()[0]  # of the machine, before anything was measured
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TRL = ROOT / ".venv-trl"
HEADER = ("figure", "ours", "peer", "limit", "unit", "times the peer", "share of the limit", "target")


@dataclass(frozen=True)
class Row:
    """One figure, and where there are such, that of a peer and the limit that hardware or mathematics sets.

    `target` is the least that `ratio` may be.
    """

    figure: str
    ours: float
    unit: str = ""
    peer: float | None = None
    limit: float | None = None
    target: float | None = None
    is_cost: bool = False  # less is better

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer's."""
        return self.times_better_than(self.peer)

    @property
    def share(self) -> float | None:
        """How much of what the limit allows is reached, at best 1."""
        return self.times_better_than(self.limit)

    def times_better_than(self, other: float | None) -> float | None:
        """The quotient of the two that is above 1 where ours is better."""
        if other is None:
            return None
        return other / self.ours if self.is_cost else self.ours / other

    @property
    def verdict(self) -> str:
        """Whether the target is met; nothing without one."""
        if self.target is None or self.ratio is None:
            return ""
        return "met" if self.ratio >= self.target else "NOT MET"

    def cells(self) -> tuple[str, ...]:
        """The row under HEADER."""
        numbers = map(significant, (self.ours, self.peer, self.limit))
        target = f"at least {self.target:,g}: {self.verdict}" if self.verdict else ""
        return (self.figure, *numbers, self.unit, significant(self.ratio), significant(self.share), target)


def significant(value: float | None) -> str:
    """Three significant digits without an exponent; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{float(f'{value:.3g}'):.10g}"


def table(rows: Sequence[Row]) -> str:
    """Rows in Markdown, aligned; columns that no row fills are left out."""
    columns = [column for column in zip(HEADER, *(row.cells() for row in rows), strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in zip(*columns, strict=True)
    ]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


@dataclass(frozen=True)
class Record:
    """Rows, and the machine that they were measured on."""

    name: str  # of its file
    machine: Mapping[str, Any]
    rows: Sequence[Row]


def save(rows: Sequence[Row]) -> Record:
    """The record of the rows and the machine, written to a file in benchmarks/results that is named by the device."""
    about = machine("cpu")
    path = RESULTS / f"speed-{named(str(about['device']))}.json"
    content = {"machine": about, "parts": {"step": [asdict(row) for row in rows]}}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return read(path)


def named(device: str) -> str:
    """The device as a part of a file's name."""
    return "".join(c if c.isalnum() else "-" for c in device.lower()).strip("-")


def read(path: Path) -> Record:
    """The record in this file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Record(path.name, content["machine"], [Row(**row) for row in content["parts"]["step"]])


def machine(device: str) -> dict[str, object]:
    """The hardware and versions that the figures belong to, and the commit."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    described = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    trl = importlib.metadata.distributions(name="trl", path=[str(path) for path in TRL.glob("lib/*/site-packages")])
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "load_at_start": LOAD,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "trl": next((found.version for found in trl), None),
        "cuda": torch.version.cuda if device == "cuda" else None,
        "commit": described.stdout.strip() or "no git",
        "measured_at": datetime.now().isoformat(timespec="minutes"),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
    }
