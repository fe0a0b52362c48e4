"""What a benchmark found: rows of figures with their targets, printed as one table and kept as JSON."""

import json
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One figure. A target is what it must be at most, at least, or both; None for what is only told."""

    figure: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

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
        most, least = self.at_most, self.at_least
        met = (most is None or self.value <= most) and (least is None or self.value >= least)
        return "met" if met else "NOT MET"


def significant(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def printed(rows: list[Row]) -> str:
    """The table as text."""
    cells = [("figure", "measured", "", "target", "")]
    cells += [(row.figure, significant(row.value), row.unit, row.target, row.verdict) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    return "\n".join(
        "  ".join(
            [
                figure.ljust(widths[0]),
                value.rjust(widths[1]),
                *(c.ljust(w) for c, w in zip(rest, widths[2:], strict=True)),
            ]
        ).rstrip()
        for figure, value, *rest in cells
    )


def machine(device: str) -> dict[str, object]:
    """The hardware and versions that the figures belong to."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device == "cuda" else None,
        "python": platform.python_version(),
        "commit": commit(),
        "measured_at": datetime.now().isoformat(timespec="minutes"),
        "command": " ".join(["python", *sys.orig_argv[1:]]),
    }


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


def saved(rows: list[Row], device: str, kind: str = "losses") -> Path:
    """The file in benchmarks/results, named by kind and device, into which rows and machine were written."""
    about = machine(device)
    name = "".join(c if c.isalnum() else "-" for c in str(about["device"]).lower()).strip("-")
    path = RESULTS / f"{kind}-{name}.json"
    path.parent.mkdir(exist_ok=True)
    lines = [asdict(row) | {"verdict": row.verdict} for row in rows]
    path.write_text(json.dumps({"machine": about, "rows": lines}, indent=1) + "\n", encoding="utf-8")
    return path
