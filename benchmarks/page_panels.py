"""The pieces that the plots of docs/speed.md are drawn from: bars beside bars, stacks, lines on logarithms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, LogLocator, NullFormatter, NullLocator, StrMethodFormatter

from benchmarks.table import Row, significant

# Colours of Okabe and Ito (2008), as in the project's other figures.
OURS, PEER, TARGET, TEXT = "#0072B2", "#BBBBBB", "#D55E00", "#333333"
PHASES = {
    "generation": "#0072B2",
    "log-probabilities": "#56B4E9",
    "update": "#009E73",
    "optimizer": "#CC79A7",
    "everything else": "#999999",
}
LOOKS = (("#0072B2", "o"), ("#009E73", "^"), ("#E69F00", "s"), ("#CC79A7", "D"), ("#999999", "v"), ("#000000", "P"))
BAR = 0.36  # of the place of a pair
WRITTEN_FROM = 4.5  # % of a bar: shorter pieces have no room for their number
GAP = 0.12  # of a panel's height between two labels at its right edge
FEW = 30  # times: a range of costs below it has more marks than powers of ten


@dataclass(frozen=True)
class Pair:
    """A row with a peer as two bars, and the target as a mark in the row's unit."""

    name: str
    row: Row
    mark: float | None


@dataclass(frozen=True)
class Line:
    """Costs against sizes, and what is written at the end."""

    look: int
    points: Sequence[tuple[int, float]]
    label: str


def draw_pairs(ax: Axes, pairs: Sequence[Pair], *, unit: str = "") -> None:
    """Ours beside the peer's; above ours the ratio, or with a unit above each its value; the target's mark."""
    for place, pair in enumerate(pairs):
        heights = (pair.row.value, pair.row.peer or 0.0)
        lefts = (place - BAR / 2, place + BAR / 2)
        ax.bar(lefts, heights, width=0.92 * BAR, color=(OURS, PEER))
        words = [f"{significant(height)} {unit}" for height in heights]
        words = words if unit else [f"{significant(pair.row.ratio)} x", ""]
        tops = (max(heights[0], pair.mark or 0.0), heights[1])
        for left, top, word, color in zip(lefts, tops, words, (OURS, TEXT), strict=True):
            ax.annotate(word, (left, top), (0, 3), textcoords="offset points", ha="center", color=color)
        if pair.mark is not None:
            ends = (lefts[0] - 0.46 * BAR, lefts[0] + 0.46 * BAR)
            ax.plot(ends, (pair.mark, pair.mark), color=TARGET, linewidth=1.8, solid_capstyle="butt")
    ax.set_xticks(range(len(pairs)), [pair.name for pair in pairs])
    ax.set_xlim(-0.6, len(pairs) - 0.4)
    ax.set_ylim(0, 1.14 * max(max(pair.row.value, pair.row.peer or 0.0, pair.mark or 0.0) for pair in pairs))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.grid(False, axis="x")


def draw_legend(figure: Figure, peer: str) -> None:
    """What the two bars and the mark are, below the panels."""
    bars = [Line2D([], [], color=color, marker="s", linestyle="", markersize=6) for color in (OURS, PEER)]
    mark = Line2D([], [], color=TARGET, linewidth=1.8)
    figure.legend([*bars, mark], ["ours", peer, "target"], loc="outside lower center", ncols=3, handlelength=1.4)


def draw_stacks(ax: Axes, forms: Sequence[str], shares: Mapping[tuple[str, str], float]) -> None:
    """A bar of 100 % for each form."""
    ends = np.zeros(len(forms))
    for phase, color in PHASES.items():
        widths = np.array([shares.get((form, phase), 0.0) for form in forms])
        ax.barh(range(len(forms)), widths, left=ends, height=0.62, color=color, edgecolor="white", linewidth=0.6)
        for place, (start, width) in enumerate(zip(ends, widths, strict=True)):
            if width >= WRITTEN_FROM:
                ax.text(start + width / 2, place, f"{width:.0f}", ha="center", va="center", color="white", fontsize=7.5)
        ends = ends + widths
    ax.set(xlim=(0, 100), xlabel="% of the CPU time", title="where a step's time goes")
    ax.grid(False)


def draw_rates(ax: Axes, forms: Sequence[str], rates: Mapping[tuple[str, str], float]) -> None:
    """A bar for each phase of each form that needs arithmetic."""
    phases = [phase for phase in PHASES if any(known == phase for _, known in rates)]
    height = 0.74 / len(phases)
    for number, phase in enumerate(phases):
        places = np.arange(len(forms)) + (number - (len(phases) - 1) / 2) * height
        values = [rates.get((form, phase), 0.0) for form in forms]
        ax.barh(places, values, height=0.9 * height, color=PHASES[phase])
        for place, value in zip(places, values, strict=True):
            ax.text(value, place, f" {value:.0f}", va="center", fontsize=7, color=TEXT)
    ax.set(xlim=(0, 100), xlabel="% of the rate of matrix products", title="how well its arithmetic is done")
    ax.grid(False, axis="y")


def draw_used(ax: Axes, bars: Sequence[tuple[str, float, Row]]) -> None:
    """A bar for each target: how many % of it are used; orange where that is too much."""
    for place, (_, share, row) in enumerate(bars):
        ax.barh(place, share, height=0.6, color=OURS if row.verdict == "met" else TARGET)
        words = f"{significant(row.value if row.ratio is None else row.ratio)} {row.unit if row.ratio is None else 'x'}"
        ax.text(max(0, share), place, f" {words.strip()}, {row.target}", va="center", fontsize=7, color=TEXT)
    ax.axvline(100, color=TEXT, linewidth=0.9, linestyle="--")
    ax.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.35 * max(100, *(share for _, share, _ in bars))), xlabel="% of the target, met up to 100")
    ax.grid(False, axis="y")


def draw_phases(figure: Figure) -> None:
    """The colours of a step's phases, below the panels."""
    handles = [Line2D([], [], color=color, marker="s", linestyle="", markersize=6) for color in PHASES.values()]
    figure.legend(handles, list(PHASES), loc="outside lower center", ncols=len(PHASES), handlelength=1.2)


def draw_lines(ax: Axes, lines: Sequence[Line]) -> None:
    """Lines on logarithms, each with its label at the right edge; dotted what is linear from the first one's start."""
    sizes, costs = zip(*lines[0].points, strict=True)
    ax.plot(sizes, [costs[0] * size / sizes[0] for size in sizes], color=TEXT, linestyle=":", linewidth=0.8)
    for line in lines:
        color, marker = LOOKS[line.look]
        ax.plot(*zip(*line.points, strict=True), color=color, marker=marker)
    ax.set(xscale="log", yscale="log")
    ax.xaxis.set_major_locator(FixedLocator(sizes))
    ax.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.tick_params(axis="x", labelsize=6.5)
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < FEW * low else (1,)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    heights = spread([float(np.log(line.points[-1][1] / low) / np.log(high / low)) for line in lines])
    for line, height in zip(lines, heights, strict=True):
        color = LOOKS[line.look][0]
        ax.text(1.03, height, line.label, transform=ax.transAxes, va="center", color=color)


def spread(heights: Sequence[float]) -> list[float]:
    """The heights in their order, moved down to GAP below the next where they are closer."""
    moved, last = list(heights), np.inf
    for place in np.argsort([-height for height in heights], kind="stable"):
        moved[place] = last = min(heights[place], last - GAP)
    return moved


def draw_names(figure: Figure, names: Mapping[str, int]) -> None:
    """The looks of lines by name, below the panels, and the dotted one."""
    handles = [Line2D([], [], color=LOOKS[look][0], marker=LOOKS[look][1]) for look in names.values()]
    linear = Line2D([], [], color=TEXT, linestyle=":", linewidth=0.8)
    labels = [*names, "linear"]
    figure.legend([*handles, linear], labels, loc="outside lower center", ncols=len(labels), columnspacing=1.2)
