"""What the benchmark found: rows beside a peer and a limit, kept as one record, and docs/speed.md written from that.

The same record gives the same bytes.
"""

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
from textwrap import fill
from typing import Any

import torch

from harness.run.environment import cpu_name

LOAD = os.getloadavg()[0]  # of the machine, before anything was measured
ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TEMPLATE = Path(__file__).with_name("page.md")
TRL = ROOT / ".venv-trl"
HEADER = ("figure", "ours", "peer", "limit", "unit", "times the peer", "share of the limit", "target")


@dataclass(frozen=True)
class Row:
    """One figure of which more is better, that of a peer, and the limit that hardware or mathematics sets.

    `target` is the least that `ratio` may be. Rows in % are a phase's share of the time, beside what it would need.
    """

    figure: str
    ours: float
    unit: str = ""
    peer: float | None = None
    limit: float | None = None
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the peer's."""
        return self.ours / self.peer if self.peer else None

    @property
    def verdict(self) -> str:
        """Whether the target is met; nothing without one."""
        if self.target is None or self.ratio is None:
            return ""
        return "met" if self.ratio >= self.target else "NOT MET"

    def cells(self) -> tuple[str, ...]:
        """The row under HEADER."""
        numbers = map(significant, (self.ours, self.peer, self.limit))
        share = self.ours / self.limit if self.limit else None
        target = f"at least {self.target:,g}: {self.verdict}" if self.verdict else ""
        return (self.figure, *numbers, self.unit, significant(self.ratio), significant(share), target)


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
    content = {"machine": about, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return read(path)


def named(device: str) -> str:
    """The device as a part of a file's name."""
    return "".join(c if c.isalnum() else "-" for c in device.lower()).strip("-")


def read(path: Path) -> Record:
    """The record in this file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Record(path.name, content["machine"], [Row(**row) for row in content["rows"]])


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


def page(record: Record) -> str:
    """The whole page."""
    judged = [row for row in record.rows if row.verdict]
    missed = f"Targets missed: {sum(row.verdict != 'met' for row in judged)} of {len(judged)}."
    about = fill(measured(record), 120, break_long_words=False, break_on_hyphens=False)
    template = TEMPLATE.read_text(encoding="utf-8")
    return template.format(measured=about, missed=missed, step=tables(record.rows))


def measured(record: Record) -> str:
    """What was measured, where, when and how; what the machine did not have is left out."""
    about: Mapping[str, Any] = record.machine
    names = {"python": "Python", "torch": "torch", "transformers": "transformers", "trl": "TRL"}
    versions = ", ".join(f"{name} {about[key]}" for key, name in names.items() if about.get(key))
    return (
        f"`make bench` on {str(about['measured_at']).replace('T', ' at ')}, commit `{about['commit']}`: "
        f"{about['device']} ({about['cpu_capability']}), {about['cores']} cores; "
        f"{versions}. What changed after that commit is not in these figures. "
        "Above 1 times the peer, ours is better; a share of the limit is at best 1. Targets bound the ratio. Written "
        f"from benchmarks/results/{record.name}."
    )


def tables(rows: Sequence[Row]) -> str:
    """A table of the rows, and behind it one of the phases of training steps."""
    phases: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.unit == "%":
            form, _, phase = row.figure.partition(": ")
            needed = "" if row.limit is None else f" ({significant(row.limit)})"
            phases.setdefault(form, {})[phase] = significant(row.ours) + needed
    heads = list(next(iter(phases.values())))
    lines = [["model", *heads], ["---"] * (1 + len(heads))]
    lines += [[form, *cells.values()] for form, cells in phases.items()]
    about = "Where a step's CPU time goes, in %; in brackets what the phase's arithmetic would take at the limit."
    written = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table([row for row in rows if row.unit != "%"]), about, written])
