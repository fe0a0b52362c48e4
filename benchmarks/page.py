"""python -m benchmarks.page [RECORD]: docs/speed.md and its plots from one record of `make bench`.

By default it is the newest. The same record gives the same bytes. A plot whose rows a record lacks is left out.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from analysis.figures.canvas import grid
from analysis.figures.style import paper
from analysis.report.files import png
from benchmarks.page_panels import (
    OURS,
    TEXT,
    Line,
    Pair,
    draw_legend,
    draw_lines,
    draw_names,
    draw_pairs,
    draw_phases,
    draw_rates,
    draw_stacks,
    draw_used,
)
from benchmarks.record import Record, newest_record, read_record
from benchmarks.sections import page
from benchmarks.table import Row, significant
from harness.cli.parser import OneLineParser, run_command

DOCS = Path(__file__).resolve().parents[1] / "docs"
COLUMNS = 4
COSTS = {"CPU time": 0, "CPU time but for attention": 1, "CPU time of attention": 3, "peak memory": 2}  # name -> look
FUTURE_KL = {"Future-KL": 0, "its discounted sum": 1, "chunked matrix": 3, "ms-swift": 2, "copy": 4}

Plot = Callable[[Record], Figure | None]


def main(arguments: list[str]) -> None:
    """Write the page and its plots, and say where."""
    parser = OneLineParser(prog="python -m benchmarks.page", allow_abbrev=False, description="A page from a record.")
    parser.add_argument("record", nargs="?", type=Path, help="(default: the newest in benchmarks/results)")
    parser.add_argument("--folder", type=Path, default=DOCS, help="where speed.md and figures/ are (default: docs)")
    options = parser.parse_args(arguments)
    print(f"written: {written(read_record(options.record or newest_record()), options.folder)}")


def written(record: Record, folder: Path) -> Path:
    """The page in this folder; plots of an earlier record that this one has no rows for are gone."""
    plots = drawn(record)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for path in (folder / "figures").glob("speed_*.png"):
        path.unlink()
    for name, image in plots.items():
        (folder / "figures" / f"{name}.png").write_bytes(image)
    (folder / "speed.md").write_text(page(record, plots), encoding="utf-8")
    return folder / "speed.md"


@paper()
def drawn(record: Record) -> dict[str, bytes]:
    """The PNG of every plot that the record has rows for."""
    figures = {name: plot(record) for name, plot in PLOTS.items()}
    about = f"python -m benchmarks.page benchmarks/results/{record.name}"
    return {name: png(figure, about) for name, figure in figures.items() if figure}


def tokens_plot(record: Record) -> Figure | None:
    """Trained tokens per CPU second beside TRL's, a panel for each model."""
    pattern = r"(?P<model>.+?), (?P<form>.+): trained tokens per CPU second, median"
    found = record.matching("step", pattern)
    models = list(dict.fromkeys(match["model"] for match, _ in found))
    if not models:
        return None
    figure, axes = grid(1, len(models), 2.5)
    for ax, model in zip(axes, models, strict=True):
        draw_pairs(ax, [Pair(match["form"], row, mark(row)) for match, row in found if match["model"] == model])
        ax.set_title(model)
    axes[0].set_ylabel("trained tokens per CPU second")
    draw_legend(figure, "TRL")
    return figure


def step_plot(record: Record) -> Figure | None:
    """Where a step's time goes, and beside it how well each phase uses the machine."""
    shares = record.matching("step", r"(?P<form>.+): (?P<phase>.+), share of the CPU time")
    rates = record.matching("step", r"(?P<form>.+): (?P<phase>.+), beside matrix products")
    if not shares or not rates:
        return None
    forms = list(dict.fromkeys(match["form"] for match, _ in shares))
    figure, (left, right) = grid(1, 2, 2.9, sharey=True)
    draw_stacks(left, forms, {(match["form"], match["phase"]): row.value for match, row in shares})
    draw_rates(right, forms, {(match["form"], match["phase"]): 100 * (row.ratio or 0) for match, row in rates})
    left.set_yticks(range(len(forms)), [form.replace(", ", "\n", 1) for form in forms])
    left.invert_yaxis()
    draw_phases(figure)
    return figure


def sampling_plot(record: Record) -> Figure | None:
    """Tokens per CPU second beside generate's, and what a token costs by number of prompts."""
    beside = record.matching("sampling", r"sampling, (?P<words>[^:]+): tokens per CPU second, median")
    costs = record.matching("sampling", r"sampling, (?P<count>[\d,]+) prompts x .+: CPU time per token, .+")
    if not beside or not costs:
        return None
    figure, (left, right) = grid(1, 2, 2.5)
    draw_pairs(left, [Pair(match["words"], row, mark(row)) for match, row in beside])
    left.set(ylabel="tokens per CPU second", title="beside generate")
    draw_costs(right, {number(match["count"]): row.value for match, row in costs})
    draw_legend(figure, "generate")
    return figure


def draw_costs(ax: Axes, costs: dict[int, float]) -> None:
    """What a token costs by number of prompts."""
    ax.plot(list(costs), list(costs.values()), color=OURS, marker="o")
    for count, value in costs.items():
        ax.annotate(significant(value), (count, value), (0, 6), textcoords="offset points", ha="center", color=TEXT)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(costs)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set(
        ylim=(0, 1.3 * max(costs.values())), xlabel="prompts", ylabel="CPU time per token, us", title="ours, by prompts"
    )
    ax.margins(x=0.1)


def padding_plot(record: Record) -> Figure | None:
    """Padding of packed texts beside that of rows as long as the longest."""
    targets = {row.figure: row.at_most for row in record.rows("padding")}
    whole = r"(?P<whole>padding of attention per real token, (?P<words>.+)), beside rows as long as the longest"
    found = record.matching("padding", whole)
    if not found:
        return None
    figure, (ax,) = grid(1, 1, 2.4)
    figure.set_size_inches(5.0, 2.4)
    draw_pairs(ax, [Pair(match["words"], row, targets.get(match["whole"])) for match, row in found], unit="%")
    ax.set_ylabel("padding, % of real tokens")
    draw_legend(figure, "rows as long as the longest")
    return figure


def size_plot(record: Record) -> Figure | None:
    """A panel for each thing that grows and each unit, on logarithms."""
    found = record.matching("size", rf"(?P<words>.+) (?P<size>[\d,]+): (?P<name>{'|'.join(COSTS)})")
    panels: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = {}
    for match, row in found:
        names = panels.setdefault((match["words"], row.unit), {})
        names.setdefault(match["name"], []).append((number(match["size"]), row.value))
    if not panels:
        return None
    fitted = {row.figure: f"{row.value:.2f}" for row in record.rows("size")}
    rows = -(-len(panels) // COLUMNS)
    figure, axes = grid(rows, COLUMNS, 1.95 * rows + 0.3)
    for ax, ((words, unit), names) in zip(axes, panels.items(), strict=False):
        exponents = {name: fitted.get(f"{words}: exponent of {name}", "") for name in names}
        draw_lines(ax, [Line(COSTS[name], points, exponents[name]) for name, points in names.items()])
        title, _, axis = words.rpartition(", ")
        ax.set(xlabel=axis, ylabel=unit)
        ax.set_title(fill(title, 22), fontsize=8)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    draw_names(figure, COSTS)
    return figure


def losses_plot(record: Record) -> Figure | None:
    """Future-KL's time against the length of responses, beside others' and a copy's."""
    kinds = "|".join(FUTURE_KL)
    found = record.matching("future_kl", rf"(?P<name>(?P<kind>{kinds})[^/]*) at (?P<length>[\d,]+), median")
    if not found:
        return None
    lines: dict[str, list[tuple[int, float]]] = {}
    looks: dict[str, int] = {}
    for match, row in found:
        looks[match["name"]] = FUTURE_KL[match["kind"]]
        lines.setdefault(match["name"], []).append((number(match["length"]), row.value))
    figure, (ax,) = grid(1, 1, 2.9)
    figure.set_size_inches(5.0, 2.9)
    draw_lines(ax, [Line(looks[name], points, name.partition(",")[0]) for name, points in lines.items()])
    ax.set(xlabel="tokens of a response", ylabel="ms")
    return figure


def targets_plot(*parts: str) -> Plot:
    """A plot of how much of each target the rows of these parts use."""

    def plot(record: Record) -> Figure | None:
        rows = [row for row in record.rows(*parts) if row.verdict]
        if not rows:
            return None
        figure, (ax,) = grid(1, 1, 0.8 + 0.34 * len(rows))
        draw_used(ax, [(fill(row.figure, 44), 100 * used(row), row) for row in rows])
        return figure

    return plot


def used(row: Row) -> float:
    """The share of the target that is used, met up to 1: what is judged over the most, or the least over it."""
    judged = row.value if row.ratio is None else row.ratio
    if row.at_most is not None:
        return judged / row.at_most
    return (row.at_least or 0.0) / judged


def mark(row: Row) -> float | None:
    """What ours would have to be to meet the target of the ratio."""
    aim = row.at_least if row.at_most is None else row.at_most
    return None if aim is None or row.peer is None else aim * row.peer


def number(text: str) -> int:
    """What a figure's name says with commas."""
    return int(text.replace(",", ""))


PLOTS: dict[str, Plot] = {
    "speed_tokens": tokens_plot,
    "speed_step": step_plot,
    "speed_sampling": sampling_plot,
    "speed_padding": padding_plot,
    "speed_overhead": targets_plot("overhead", "recording"),
    "speed_runs": targets_plot("runs"),
    "speed_size": size_plot,
    "speed_losses": losses_plot,
}

if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:], needs=("analysis", "harness")))
