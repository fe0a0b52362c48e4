"""The pieces that figures are drawn from: a grid of axes, curves with bands, dots with intervals, legends."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import INK, SOFT, ArmStyle, Look, Styles

WIDTH = 7.2
MARKS = 5
MOST_POINTS = 20_000  # of all seeds in one panel; beyond that only every n-th point is drawn
MANY_ARMS = 6  # from there on bands lie on each other

__all__ = ["WIDTH", "Axes", "Drawing", "Line2D"]


def grid(rows: int, columns: int, height: float, **options: object) -> tuple[Drawing, list[Axes]]:
    """A drawing of a page's width with rows x columns axes, in reading order."""
    drawing = Drawing(figsize=(WIDTH, height), layout="constrained")
    axes = drawing.subplots(rows, columns, squeeze=False, **options)  # type: ignore[call-overload]
    return drawing, [cast(Axes, ax) for ax in np.asarray(axes).ravel()]


def draw_curves(ax: Axes, curves: pd.DataFrame, bands: pd.DataFrame, styles: Styles) -> None:
    """Every seed as a thin line, the mean as a thick one, its interval as a band."""
    arms = [arm for arm in styles if curves["arm"].eq(arm).any()]
    for place, arm in enumerate(arms):
        style, of_arm, mean = styles[arm], curves[curves["arm"] == arm], bands[bands["arm"] == arm]
        if style.background:
            ax.plot(mean["x"], mean["mean"], color=style.color, linestyle=style.linestyle, linewidth=1.0, zorder=1)
            continue
        _seed_lines(ax, of_arm, style, len(arms))
        band = 0.13 if len(arms) <= MANY_ARMS else 0.04
        ax.fill_between(mean["x"], mean["low"], mean["high"], color=style.color, alpha=band, linewidth=0, zorder=1)
        # Markers at other places for other arms, so that arms on top of each other stay visible.
        every = max(1, len(mean) // MARKS)
        marks: Look = {"marker": style.marker, "markevery": (place % every, every)}
        ax.plot(mean["x"], mean["mean"], color=style.color, linestyle=style.linestyle, zorder=3, **marks)
    ax.margins(x=0.02)
    front = [arm for arm in arms if not styles[arm].background] or arms
    scale_to(ax, curves.loc[curves["arm"].isin(front), "value"])


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


def seed_and_mean(mean: str = "mean, 95 % t interval") -> list[Line2D]:
    """The entries for the marks of `draw_row`."""
    return [
        handle(mean, color=SOFT, marker="o", markersize=6.5, markeredgecolor="white", linewidth=2.2),
        handle("one seed", color=SOFT, marker="o", markerfacecolor="none", markersize=3.5, linestyle=""),
    ]


def legend(drawing: Drawing, styles: Styles, others: Sequence[Line2D] = (), ax: Axes | None = None) -> None:
    """The arms' names, above everything or in axes that are left free for it: over no data."""
    handles = [
        handle(style.label, color=style.color, linestyle=style.linestyle, marker=style.marker)
        for style in styles.values()
    ] + list(others)
    if ax is None:
        longest = max(len(str(item.get_label())) for item in handles)
        columns = max(1, min(len(handles), 100 // (longest + 8)))
        drawing.legend(handles=handles, loc="outside upper center", ncols=columns)
        return
    ax.axis("off")
    # Out of the layout, so that long names do not make the other axes narrower.
    ax.legend(handles=handles, loc="center left", borderaxespad=0.0, labelspacing=0.8).set_in_layout(False)


def whole_steps(ax: Axes) -> None:
    """Ticks at whole numbers of training steps only."""
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
