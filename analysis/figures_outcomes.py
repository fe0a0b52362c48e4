"""Figures of the outcomes: each arm's seeds with mean and interval, and the differences between arms.

Each is a function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.panels import draw_dots, draw_interval, grid, name_rows
from analysis.style import arm_label, arm_styles, paper

AXIS = {"auc": "AUC (mean training accuracy)", "final_accuracy": "final accuracy (last evaluations)"}
WORD_COLORS = {"supported": "#009E73", "contradicted": "#D55E00"}


@paper()
def outcomes_per_arm(seeds: pd.DataFrame, means: pd.DataFrame, close: list[str]) -> Figure:
    """Every seed, mean and interval: all arms on the left, the arms `close` together magnified on the right.

    seeds: arm, outcome, value. means: arm, outcome, mean, low, high.
    """
    arms = list(dict.fromkeys(means["arm"]))
    heights = [0.36 * len(arms) + 0.6] * len(AXIS)
    options = {"gridspec_kw": {"width_ratios": [1, 1.15]}}
    figure, axes = grid(len(AXIS), 2, sum(heights) + 0.5, **options)
    for row, outcome in enumerate(AXIS):
        for ax, shown in zip(axes[2 * row : 2 * row + 2], (arms, close), strict=True):
            _outcome(ax, seeds[seeds["outcome"] == outcome], means[means["outcome"] == outcome], shown)
            ax.set_xlabel(AXIS[outcome])
        axes[2 * row].set_title("Primary outcome" if outcome == "auc" else "Secondary outcome")
        axes[2 * row + 1].set_title("the same, magnified")
    handles = [
        Line2D([], [], color="#555555", marker="o", markersize=6.5, markeredgecolor="white", linewidth=2.2),
        Line2D([], [], color="#555555", marker="o", markerfacecolor="none", markersize=3.5, linestyle=""),
    ]
    figure.legend(handles, ["mean and 95 % t interval", "one seed"], loc="outside upper center", ncols=2)
    return figure


@paper()
def pairwise_differences(comparisons: pd.DataFrame) -> Figure:
    """A forest plot per outcome; the grey band holds the differences too small for these seeds to detect.

    comparisons: outcome, arm, baseline, difference, low, high, smallest_detectable, word, kind (claim | control).
    """
    outcomes = [name for name in AXIS if name in set(comparisons["outcome"])]
    rows = comparisons.groupby("outcome", sort=False).size().max()
    figure, axes = grid(1, len(outcomes), 0.42 * rows + 1.3)
    for ax, outcome in zip(axes, outcomes, strict=True):
        _forest(ax, comparisons[comparisons["outcome"] == outcome].reset_index(drop=True))
        ax.set_ylim(rows - 0.4, -0.5)
        ax.set_xlabel(f"difference in {AXIS[outcome]}")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_title("Primary outcome" if outcome == "auc" else "Secondary outcome: no claim")
    band = Patch(color="#e3e3e3", label="too small to detect with these seeds (80 % power)")
    line = Line2D([], [], color="#333333", marker="o", linewidth=2.2, label="difference and 95 % t interval")
    figure.legend(handles=[line, band], loc="outside upper center", ncols=2)
    return figure


def _outcome(ax: Axes, seeds: pd.DataFrame, means: pd.DataFrame, arms: list[str]) -> None:
    styles = arm_styles(list(means["arm"]))
    for y, arm in enumerate(arms):
        draw_dots(ax, list(seeds.loc[seeds["arm"] == arm, "value"]), y, styles[arm])
        draw_interval(ax, means[means["arm"] == arm].iloc[0], y, styles[arm])
    name_rows(ax, [styles[arm].label for arm in arms])
    ax.margins(x=0.06)


def _forest(ax: Axes, rows: pd.DataFrame) -> None:
    ax.axvline(0.0, color="#333333", linewidth=0.8, zorder=1)
    for y, row in rows.iterrows():
        place = float(str(y))
        color = WORD_COLORS.get(row["word"], "#333333") if row["kind"] == "claim" else "#AA4499"
        if row["smallest_detectable"] is not None and not np.isnan(row["smallest_detectable"]):
            reach = float(row["smallest_detectable"])
            ax.fill_betweenx([place - 0.36, place + 0.36], -reach, reach, color="#e3e3e3", linewidth=0, zorder=0)
        if not np.isnan(row["low"]):
            ax.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2.2, zorder=2)
        ax.plot(row["difference"], place, marker="o", color=color, markersize=5.5, zorder=3)
    names = [f"{arm_label(row['arm'])} \N{MINUS SIGN} {arm_label(row['baseline'])}" for _, row in rows.iterrows()]
    name_rows(ax, [f"{name}\n{row['word']}" for name, (_, row) in zip(names, rows.iterrows(), strict=True)])
    ax.margins(x=0.08)
