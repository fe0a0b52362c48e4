"""The figure of the claims: each effect with the interval that decides it, against its margin.

A function from a tidy table to a matplotlib Figure: no reading, no statistics, no saving.
"""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas import WIDTH
from analysis.figures.style import paper

WORD_COLORS = {"supported": "#007A5A", "contradicted": "#C04A00", "undecided": "#444444"}
ROW, TEXT_WIDTH = 0.34, 58


@paper()
def claims_forest(rows: pd.DataFrame, units: dict[str, str]) -> Figure:
    """A panel per metric, a row per claim; the shaded side is where the claim holds.

    rows: claim, role, metric, kind, direction, margin, effect, low, high, verdict. units: axis label by metric.
    """
    metrics = list(dict.fromkeys(rows["metric"]))
    counts = [int((rows["metric"] == metric).sum()) for metric in metrics]
    figure = Figure(figsize=(WIDTH, ROW * sum(counts) + 0.62 * len(metrics) + 0.5), layout="constrained")
    axes = figure.subplots(len(metrics), 1, squeeze=False, gridspec_kw={"height_ratios": [n + 0.4 for n in counts]})
    for ax, metric in zip(axes[:, 0], metrics, strict=True):
        _panel(ax, rows[rows["metric"] == metric].reset_index(drop=True))
        ax.set_xlabel(units[metric], labelpad=1)
    handles = [
        Line2D([], [], color="#444444", marker="o", linewidth=2.0, label="effect and the interval that decides"),
        Line2D([], [], color="#444444", marker="o", markerfacecolor="white", linewidth=1.0, label="exploratory"),
        Patch(color="#dfeaf3", label="where the claim would hold"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    low, high = _limits(rows)
    ax.set_xlim(low, high)
    for y, row in rows.iterrows():
        place = float(str(y))
        _shade(ax, row, place, (low, high))
        color, primary = WORD_COLORS[row["verdict"]], row["role"] == "primary"
        if not np.isnan(row["low"]):
            width = 2.2 if primary else 1.1
            ax.plot([row["low"], row["high"]], [place, place], color=color, linewidth=width, zorder=2)
        face = color if primary else "white"
        ax.plot(row["effect"], place, "o", color=color, markerfacecolor=face, markersize=5.5, zorder=3)
    ax.axvline(0.0, color="#333333", linewidth=0.8, zorder=1)
    labels = [f"{textwrap.fill(row['claim'], TEXT_WIDTH)}\n{row['verdict']}" for _, row in rows.iterrows()]
    ax.set_yticks(range(len(rows)), labels, fontsize=7)
    for tick, verdict in zip(ax.get_yticklabels(), rows["verdict"], strict=True):
        tick.set_color(WORD_COLORS[verdict])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(6))


def _shade(ax: Axes, row: pd.Series, place: float, limits: tuple[float, float]) -> None:
    margin = float(row["margin"])
    if row["kind"] == "equivalent":
        edges = (-margin, margin)
    else:
        edges = (margin, limits[1]) if row["direction"] == "higher" else (limits[0], -margin)
    ax.fill_betweenx([place - 0.4, place + 0.4], *edges, color="#dfeaf3", linewidth=0, zorder=0)


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Room for all intervals, both margins and 0."""
    ends = np.concatenate([rows[name].to_numpy(float) for name in ("low", "high", "effect", "margin")])
    ends = np.concatenate([ends[np.isfinite(ends)], -rows["margin"].to_numpy(float), [0.0]])
    low, high = float(ends.min()), float(ends.max())
    room = 0.06 * (high - low) or 1.0
    return low - room, high + room
