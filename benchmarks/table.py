"""What a benchmark found: rows of figures with their targets, printed as one table and kept as JSON."""

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

import torch

LOAD = os.getloadavg()[0]  # of the machine, before anything was measured
RESULTS = Path(__file__).parent / "results"
TRL = RESULTS.parents[1] / ".venv-trl"


@dataclass(frozen=True)
class Row:
    """One figure of ours, and where there are such, a peer's and the floor that hardware or mathematics sets.

    A target is what the ratio, or without a peer and a floor our figure, must be at most, at least, or both; None for
    what is only told.
    """

    figure: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    peer: float | None = None
    floor: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's, or over the floor where there is no peer."""
        other = self.floor if self.peer is None else self.peer
        return None if other is None else self.value / other

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_most is not None and self.at_least is not None:
            return f"{self.at_least:g} to {self.at_most:g}"
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"at least {self.at_least:,g}" if self.at_least is not None else ""

    @property
    def verdict(self) -> str:
        """Whether the figure meets its target."""
        if self.at_most is None and self.at_least is None:
            return ""
        most, least, judged = self.at_most, self.at_least, self.value if self.ratio is None else self.ratio
        met = (most is None or judged <= most) and (least is None or judged >= least)
        return "met" if met else "NOT MET"


def significant(value: float | None) -> str:
    """Three significant digits without an exponent; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


HEADER = ("figure", "ours", "peer", "floor", "", "ratio", "target", "")
NUMBERS = ("ours", "peer", "floor", "ratio")


def printed(rows: list[Row]) -> str:
    """The table as text; columns that no row fills are left out."""
    lines = [HEADER] + [
        (
            row.figure,
            *map(significant, (row.value, row.peer, row.floor)),
            row.unit,
            significant(row.ratio),
            row.target,
            row.verdict,
        )
        for row in rows
    ]
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*map(aligned, columns), strict=True))


def aligned(column: tuple[str, ...]) -> list[str]:
    """The cells of a column at one width, numbers to the right."""
    width = max(map(len, column))
    return [cell.rjust(width) if column[0] in NUMBERS else cell.ljust(width) for cell in column]


def machine(device: str) -> dict[str, object]:
    """The hardware and versions that the figures belong to."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "load_at_start": LOAD,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "trl": trl_version(),
        "cuda": torch.version.cuda if device == "cuda" else None,
        "python": platform.python_version(),
        "commit": commit(),
        "measured_at": datetime.now().isoformat(timespec="minutes"),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
    }


def trl_version() -> str | None:
    """The version of TRL in its own environment, if there is one."""
    found = importlib.metadata.distributions(name="trl", path=[str(path) for path in TRL.glob("lib/*/site-packages")])
    return next((one.version for one in found), None)


def commit() -> str:
    """The commit that was measured, and whether files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    result = subprocess.run(command, cwd=RESULTS.parent.parent, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "no git"


def cpu_name() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def saved(rows: Sequence[Row] | Mapping[str, Sequence[Row]], device: str, kind: str) -> Path:
    """The file in benchmarks/results, named by kind and device, into which rows and machine were written.

    Each row is written with the part that it is of: its key, or where no parts are told apart, the kind.
    """
    parts = rows if isinstance(rows, Mapping) else {kind: rows}
    about = machine(device)
    name = "".join(c if c.isalnum() else "-" for c in str(about["device"]).lower()).strip("-")
    path = RESULTS / f"{kind}-{name}.json"
    path.parent.mkdir(exist_ok=True)
    lines = [
        {"part": part} | asdict(row) | {"ratio": row.ratio, "verdict": row.verdict}
        for part, found in parts.items()
        for row in found
    ]
    path.write_text(json.dumps({"machine": about, "rows": lines}, indent=1) + "\n", encoding="utf-8")
    return path
