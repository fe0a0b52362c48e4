"""The figure of the outcomes: each arm's seeds with mean and interval.

A function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.canvas import draw_dots, draw_interval, grid, name_rows
from analysis.figures.style import arm_styles, paper

AXIS = {"auc": "AUC (mean training accuracy)", "final_accuracy": "final accuracy (last evaluations)"}


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


def _outcome(ax: Axes, seeds: pd.DataFrame, means: pd.DataFrame, arms: list[str]) -> None:
    styles = arm_styles(list(means["arm"]))
    for y, arm in enumerate(arms):
        draw_dots(ax, list(seeds.loc[seeds["arm"] == arm, "value"]), y, styles[arm])
        draw_interval(ax, means[means["arm"] == arm].iloc[0], y, styles[arm])
    name_rows(ax, [styles[arm].label for arm in arms])
    ax.margins(x=0.06)
