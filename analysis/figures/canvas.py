"""The pieces that figures are drawn from: curves with bands, dots with intervals, the legend."""

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analysis.figures.style import ArmStyle, arm_styles

WIDTH = 7.2
MARKS = 5
MOST_POINTS = 20_000  # of all seeds in a panel; beyond that only every n-th point is drawn
MANY_ARMS = 6  # from there on bands lie on each other


def grid(rows: int, columns: int, height: float, **options: object) -> tuple[Figure, list[Axes]]:
    """A figure of a page's width with rows x columns panels, in reading order."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)  # type: ignore[call-overload]
    return figure, [cast(Axes, ax) for ax in np.asarray(axes).ravel()]


def draw_curves(ax: Axes, curves: pd.DataFrame, bands: pd.DataFrame, styles: dict[str, ArmStyle]) -> None:
    """Every seed as a thin line, the mean as a thick one, its interval as a band; `not recorded` where nothing is."""
    if curves.empty:
        _nothing(ax)
        return
    for arm, of_arm in curves.groupby("arm", sort=False, observed=True):
        runs = _by_run(of_arm)
        every = max(1, len(runs) * len(styles) * len(runs[0]) // MOST_POINTS)
        lines = [np.vstack([points[:-1:every], points[-1:]]) for points in runs]
        color = styles[str(arm)].color
        ax.add_collection(LineCollection(lines, colors=color, linewidths=0.5, alpha=0.35, zorder=2), autolim=True)
    band = 0.13 if len(styles) <= MANY_ARMS else 0.04
    for place, (arm, rows) in enumerate(bands.groupby("arm", sort=False, observed=True)):
        style = styles[str(arm)]
        ax.fill_between(rows["x"], rows["low"], rows["high"], color=style.color, alpha=band, linewidth=0, zorder=1)
        # Markers at other places for other arms, so that arms on top of each other stay visible.
        every = max(1, len(rows) // MARKS)
        ax.plot(
            rows["x"],
            rows["mean"],
            color=style.color,
            linestyle=style.linestyle,
            marker=style.marker,
            markevery=(place % every, every),
            zorder=3,
        )
    ax.margins(x=0.02)
    # The seeds set the scale: a t interval of three may reach below zero tokens and dwarf everything else.
    low, high = curves["value"].min(), curves["value"].max()
    if high > low:
        ax.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))


def _by_run(curves: pd.DataFrame) -> list[NDArray[np.float64]]:
    """The points of each run, whose rows lie together: a groupby of a thousand runs takes longer than drawing them."""
    starts = np.flatnonzero(curves["run"].ne(curves["run"].shift()).to_numpy())
    return np.split(curves[["x", "value"]].to_numpy(float), starts[1:])


def draw_interval(ax: Axes, row: pd.Series, y: float, style: ArmStyle) -> None:
    """A mean and its interval, lying at height y."""
    if not np.isnan(row["low"]):
        ax.plot([row["low"], row["high"]], [y, y], color=style.color, linewidth=2.2, solid_capstyle="butt", zorder=2)
    ax.plot(row["mean"], y, marker=style.marker, color=style.color, markersize=6, markeredgecolor="white", zorder=4)


def draw_dots(ax: Axes, values: Sequence[float], y: float, style: ArmStyle) -> None:
    """Every seed's value as an open dot, spread over a strip below y so that none hides another."""
    heights = y + 0.3 + np.linspace(-0.08, 0.08, len(values)) if len(values) > 1 else [y + 0.3]
    ax.plot(
        values, heights, "o", color=style.color, markerfacecolor="none", markersize=3.5, markeredgewidth=0.9, zorder=3
    )


def name_rows(ax: Axes, labels: Sequence[str]) -> None:
    """Rows from top to bottom with these names."""
    ax.set_yticks(range(len(labels)), [label.replace(" (", "\n(") for label in labels])
    ax.set_ylim(len(labels) - 0.4, -0.5)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def legend(figure: Figure, arms: Iterable[str], ax: Axes | None = None) -> None:
    """The arms' names, above all panels or in a panel that is left free for it: over no data."""
    styles = arm_styles(list(arms))
    handles = [
        Line2D([], [], color=style.color, linestyle=style.linestyle, marker=style.marker, label=style.label)
        for style in styles.values()
    ]
    handles.append(Line2D([], [], color="#888888", linewidth=0.6, label="one seed"))
    if ax is None:
        figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)))
        return
    ax.axis("off")
    for handle in handles:
        handle.set_label(str(handle.get_label()).replace(" (", "\n("))
    # Out of the layout, so that long names do not make the other panels narrower.
    ax.legend(handles=handles, loc="center left", borderaxespad=0.0, labelspacing=0.8).set_in_layout(False)


def percent(ax: Axes) -> None:
    """Small shares on the y axis in percent, with as many digits as they need."""
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


def whole_steps(ax: Axes) -> None:
    """Ticks at whole numbers of training steps only."""
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _nothing(ax: Axes) -> None:
    ax.text(0.5, 0.5, "not recorded", transform=ax.transAxes, ha="center", va="center", color="#777777")
    ax.set_xticks([])
    ax.set_yticks([])
