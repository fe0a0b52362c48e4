"""The figure of the ladder: what each switch brought, at equal steps and at equal generated tokens.

A function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas import grid
from analysis.figures.style import paper

TITLES = {"auc": "At equal steps", "at_equal_tokens": "At equal generated tokens"}
UNITS = {"auc": "gain in AUC", "at_equal_tokens": "gain in evaluation accuracy"}
COLOR = "#0072B2"


@paper()
def ladder_gains(gains: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """A row per rung, a panel per outcome; tables as analysis.figures.ladder.gains gives them."""
    arms = list(dict.fromkeys(gains["arm"]))
    figure, axes = grid(1, 2, 0.44 * len(arms) + 1.2, sharey=True)
    for ax, outcome in zip(axes, TITLES, strict=True):
        rows = gains[gains["outcome"] == outcome].set_index("arm")
        _panel(ax, rows, seeds[seeds["outcome"] == outcome], arms)
        ax.set_title(TITLES[outcome])
        ax.set_xlabel(UNITS[outcome])
    parents = gains.drop_duplicates("arm").set_index("arm")
    labels = [f"{arm}\n{parents.loc[arm, 'label']} (on {parents.loc[arm, 'parent']})" for arm in arms]
    axes[0].set_yticks(range(len(arms)), labels, fontsize=7)
    axes[0].set_ylim(len(arms) - 0.4, -0.6)
    handles = [
        Line2D([], [], color=COLOR, marker="o", markeredgecolor="white", linewidth=2.2),
        Line2D([], [], color=COLOR, marker="o", markerfacecolor="none", markersize=3.5, linestyle=""),
    ]
    words = ["gain over the arm below it, 95 % t interval", "one seed, paired"]
    figure.legend(handles, words, loc="outside upper center", ncols=2)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, seeds: pd.DataFrame, arms: list[str]) -> None:
    ax.axvline(0.0, color="#333333", linewidth=0.8, zorder=1)
    for y, arm in enumerate(arms):
        row, dots = rows.loc[arm], seeds.loc[seeds["arm"] == arm, "difference"]
        if not np.isnan(row["low"]):
            ax.plot([row["low"], row["high"]], [y, y], color=COLOR, linewidth=2.2, solid_capstyle="butt", zorder=2)
        ax.plot(row["difference"], y, "o", color=COLOR, markersize=6, markeredgecolor="white", zorder=4)
        ax.plot(dots, [y + 0.3] * len(dots), "o", color=COLOR, markerfacecolor="none", markersize=3.5, zorder=3)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.margins(x=0.06)
