"""The files of a report, and report.json about them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.figures.chart import Chart
from analysis.records.provenance import Source
from analysis.report.manifest import write_manifest
from analysis.report.page import MOST_CSV_BYTES, Shown
from analysis.report.saving import save_figure, save_tables


@dataclass(frozen=True)
class Asked:
    """What a report was asked for: the folders, how they were spelled, the axis of training, and what is let pass."""

    folders: tuple[Path, ...]
    given: str
    axis: str = "steps"
    skip_bad: bool = False

    @property
    def spelled(self) -> str:
        """Folders and flags as a command has them."""
        axis = "" if self.axis == "steps" else f" --axis {self.axis}"
        return f"{self.given}{axis}{' --skip_bad' if self.skip_bad else ''}"

    @property
    def options(self) -> dict[str, Any]:
        """What report.json keeps of it."""
        return {"given": self.given, "axis": self.axis, "skip_bad": self.skip_bad}


def write_charts(wanted: Iterable[Chart], output: Path, source: Source) -> list[Shown]:
    """Write each figure and its tables into output/figures, one at a time, and hand back what a page needs of them."""
    folder = output / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for chart in wanted:
        tables = save_tables(chart.tables, folder, chart.name)
        kept = {path.name: path.read_bytes() if path.stat().st_size <= MOST_CSV_BYTES else None for path in tables}
        image = save_figure(chart.figure, folder, chart.name, source.about(chart.name))
        shown.append(Shown(chart.name, chart.title, chart.caption, chart.alt, image, kept))
    return shown


def write_files(
    texts: Mapping[str, str], shown: Sequence[Shown], output: Path, made_from: tuple[list[Path], Mapping[str, Any]]
) -> None:
    """Write the texts by name, and report.json over them and the figures. made_from: the folders and the options."""
    for name, text in texts.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_text(text, encoding="utf-8")
    figures = output / "figures"
    written = [output / name for name in texts]
    for item in shown:
        names = [f"{item.name}.png", f"{item.name}.pdf", *item.tables]
        written += [figures / name for name in names]
    write_manifest(output, made_from[0], made_from[1], written)
