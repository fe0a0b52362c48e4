"""The pieces that figures are drawn from: a grid of axes, curves with bands, dots with intervals, legends."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import INK, PAGE_WIDTH, SOFT, ArmStyle, Look, Styles

MARKS = 5
MOST_POINTS = 20_000  # of all seeds in one panel; beyond that only every n-th point is drawn
MANY_ARMS = 6  # beyond it seeds and bands hide each other
NARROW = 5.0  # inches: on a narrower page fewer axes stand beside each other
LETTERS, NARROW_LETTERS = 16, 16  # of a legend in an inch; of a title or label over narrow axes

__all__ = ["Axes", "Drawing", "Line2D"]


def fitting(columns: int) -> int:
    """How many of so many columns the page's width has room for."""
    return columns if PAGE_WIDTH.get() > NARROW else -(-columns // 2)


def sheet(height: float) -> Drawing:
    """An empty drawing of the page's width."""
    return Drawing(figsize=(PAGE_WIDTH.get(), height), layout="constrained")


def grid(count: int, columns: int, row: float, room: float = 0.0, **options: Any) -> tuple[Drawing, list[Axes]]:
    """A drawing with so many axes, in reading order in as many of the columns as fit, and those left free switched off.

    row, room: inches of a row of axes, and above them all. options: of `subplots`; height_ratios are those of a page
    that is wide enough.
    """
    columns = min(fitting(columns), count)
    rows = -(-count // columns)
    if ratios := options.pop("height_ratios", None):
        options["height_ratios"] = np.repeat(ratios, rows // len(ratios))
    drawing = sheet(rows * row + room)
    axes = [cast(Axes, ax) for ax in drawing.subplots(rows, columns, squeeze=False, **options).ravel()]
    for ax in axes[count:]:
        ax.axis("off")
    return drawing, axes[:count]


def fold(words: str) -> str:
    """The words on several lines where the page is narrow."""
    return words if PAGE_WIDTH.get() > NARROW else fill(words, NARROW_LETTERS)


def in_first_column(ax: Axes) -> bool:
    """Whether the axes begin a row of their grid."""
    place = ax.get_subplotspec()
    return place is not None and place.is_first_col()


def draw_curves(ax: Axes, curves: pd.DataFrame, bands: pd.DataFrame, styles: Styles) -> None:
    """Every seed as a thin line, the mean as a thick one, its interval as a band; of many arms the means alone."""
    arms = [arm for arm in styles if curves["arm"].eq(arm).any()]
    crowded = len(arms) > MANY_ARMS
    for place, arm in enumerate(arms):
        style, of_arm, mean = styles[arm], curves[curves["arm"] == arm], bands[bands["arm"] == arm]
        if not crowded:
            _seed_lines(ax, of_arm, style, len(arms))
            ax.fill_between(mean["x"], mean["low"], mean["high"], color=style.color, alpha=0.13, linewidth=0, zorder=1)
        # Markers at other places for other arms, so that arms on top of each other stay visible.
        every = max(1, len(mean) // MARKS)
        marks: Look = {"marker": style.marker, "markevery": (place % every, every)}
        ax.plot(mean["x"], mean["mean"], color=style.color, linestyle=style.linestyle, zorder=3, **marks)
    ax.margins(x=0.02)
    shown, value = (bands, "mean") if crowded else (curves, "value")
    scale_to(ax, shown.loc[shown["arm"].isin(arms), value])


def _seed_lines(ax: Axes, of_arm: pd.DataFrame, style: ArmStyle, arms: int) -> None:
    every = max(1, len(of_arm) * arms // MOST_POINTS)
    # A run's rows lie together: a groupby of a thousand runs takes longer than drawing them.
    starts = np.flatnonzero(of_arm["run"].to_numpy()[1:] != of_arm["run"].to_numpy()[:-1]) + 1
    points = np.split(of_arm[["x", "value"]].to_numpy(float), starts)
    lines = [np.vstack([line[:-1:every], line[-1:]]) for line in points]
    ax.add_collection(LineCollection(lines, colors=style.color, linewidths=0.5, alpha=0.35, zorder=2), autolim=True)


def scale_to(ax: Axes, values: pd.Series) -> None:
    """Let the seeds set the y axis: a t interval of three may reach below zero tokens and dwarf everything else."""
    low, high = values.min(), values.max()
    if high > low:
        ax.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))


def draw_row(ax: Axes, y: float, row: pd.Series, values: Sequence[float], style: ArmStyle) -> None:
    """A mean with its interval (row: mean, low, high) at height y, and every seed as an open dot below it."""
    if not np.isnan(row["low"]):
        bar: Look = {"color": style.color, "linewidth": 2.2, "solid_capstyle": "butt"}
        ax.plot([row["low"], row["high"]], [y, y], zorder=2, **bar)
    ax.plot(row["mean"], y, style.marker, color=style.color, markersize=6.5, markeredgecolor="white", zorder=4)
    heights = y + 0.3 + (np.linspace(-0.08, 0.08, len(values)) if len(values) > 1 else np.zeros(len(values)))
    dots: Look = {"color": style.color, "markerfacecolor": "none", "markersize": 3.5, "markeredgewidth": 0.9}
    ax.plot(values, heights, "o", zorder=3, **dots)


def name_rows(ax: Axes, labels: Sequence[str]) -> None:
    """Rows from top to bottom with these names."""
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.5)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def zero_line(ax: Axes, x: float = 0.0) -> None:
    """Where there is no difference, on a horizontal axis."""
    ax.axvline(x, color=INK, linewidth=0.8, zorder=1)


def handle(label: str, **look: object) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=label, **look)  # type: ignore[arg-type]


def seed_and_mean(unit: str, mean: str = "mean, 95 % t interval") -> list[Line2D]:
    """The entries for the marks of `draw_row`. unit: what a dot is one of."""
    return [
        handle(mean, color=SOFT, marker="o", markersize=6.5, markeredgecolor="white", linewidth=2.2),
        handle(f"one {unit}", color=SOFT, marker="o", markerfacecolor="none", markersize=3.5, linestyle=""),
    ]


def arm_handles(styles: Styles) -> list[Artist]:
    """An entry of a legend for each arm."""
    return [
        handle(style.label, color=style.color, linestyle=style.linestyle, marker=style.marker)
        for style in styles.values()
    ]


def legend(drawing: Drawing, handles: Sequence[Artist], free: Axes | None = None) -> None:
    """The names of what is drawn, above everything or in axes that are left free for it: over no data."""
    if free is None:
        letters = [len(str(item.get_label())) + 7 for item in handles]
        room = round(LETTERS * PAGE_WIDTH.get())
        columns = len(handles) if sum(letters) <= room else max(1, room // max(letters))
        drawing.legend(handles=handles, loc="outside upper center", ncols=columns)
        return
    # Out of the layout, so that long names do not make the other axes narrower.
    free.legend(handles=handles, loc="center left", borderaxespad=0.0, labelspacing=0.8).set_in_layout(False)


def draw_limit(ax: Axes, limit: float | None, upright: bool = False) -> None:
    """The longest response that a run may give, in axes whose data are drawn; beyond them in words alone."""
    if limit is None:
        return
    low, high = ax.get_xlim() if upright else ax.get_ylim()
    look: Look = {"color": SOFT, "size": 6.5}
    if limit > high + 0.1 * (high - low):
        arrow = "\N{RIGHTWARDS ARROW}" if upright else "\N{UPWARDS ARROW}"
        ax.text(0.01, 0.98, f"limit {limit:,.0f} {arrow}", va="top", transform=ax.transAxes, **look)
        return
    (ax.axvline if upright else ax.axhline)(limit, color=SOFT, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
    (ax.set_xlim if upright else ax.set_ylim)(low, max(high, limit + 0.04 * (high - low)))
    place, across = ((limit, 0.02), ax.get_xaxis_transform()) if upright else ((0.99, limit), ax.get_yaxis_transform())
    va = "bottom" if upright else "top"
    ax.text(*place, f"limit {limit:,.0f} ", ha="right", va=va, transform=across, **look)


def whole_steps(ax: Axes) -> None:
    """Ticks at whole numbers of training steps only."""
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
