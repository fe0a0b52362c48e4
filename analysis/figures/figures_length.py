"""Figures of accuracy against response length: four views of the last answers, and the path over training.

Each is a function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.canvas import draw_curves, draw_interval, grid, legend, name_rows
from analysis.figures.style import ArmStyle, arm_styles, paper

STAGE_MARKS = ("o", "^", "s", "D")


@paper()
def accuracy_against_length(
    pooled: pd.DataFrame, within: pd.DataFrame, anytime: pd.DataFrame, anytime_bands: pd.DataFrame
) -> Figure:
    """Four panels: a pooled bins, b the anytime curve; within prompt, c concordance and d the slope of a logit."""
    figure, axes = grid(2, 2, 6.0)
    styles = arm_styles(list(dict.fromkeys(anytime["arm"])))
    _pooled(axes[0], pooled, styles)
    _anytime(axes[1], anytime, anytime_bands, styles)
    _within(axes[2], within[within["measure"] == "concordance"], styles, 0.5)
    axes[2].set_title("c  Within prompt: concordance")
    axes[2].set_xlabel("P(right answer is the longer | same prompt, policy)")
    _within(axes[3], within[within["measure"] == "slope"], styles, 0.0)
    axes[3].set_title("d  Within prompt: logit slope")
    axes[3].set_xlabel("log-odds of being right per unit of log tokens")
    axes[3].set_yticklabels([])
    legend(figure, styles)
    return figure


@paper()
def length_paths(points: pd.DataFrame) -> Figure:
    """A panel per arm: every seed's path and their mean by step, the stages of training as marks.

    points: run, arm, seed, step, stage, response_tokens, accuracy.
    """
    styles = arm_styles(list(dict.fromkeys(points["arm"])))
    columns = min(3, len(styles))
    rows = -(-len(styles) // columns)
    figure, axes = grid(rows, columns, 2.3 * rows + 0.5, sharey=True)
    for ax, (arm, style) in zip(axes, styles.items(), strict=False):
        of_arm = points[points["arm"] == arm]
        for _, path in of_arm.groupby("run", sort=False, observed=True):
            ax.plot(path["response_tokens"], path["accuracy"], color=style.color, linewidth=0.5, alpha=0.4)
        for stage, marked in of_arm.groupby("stage"):
            x, y, mark = marked["response_tokens"], marked["accuracy"], STAGE_MARKS[int(str(stage)) - 1]
            ax.plot(x, y, linestyle="", marker=mark, markersize=3, color=style.color, alpha=0.75)
        ax.set_title(style.label.split(" (")[0])
        ax.set_xlabel("mean response tokens")
        ax.margins(0.06)
    for ax in axes[len(styles) :]:
        ax.axis("off")
    for ax in axes[::columns]:
        ax.set_ylabel("evaluation accuracy")
    handles = [
        Line2D([], [], linestyle="", marker=mark, color="#444444", markersize=4, label=f"quarter {number} of training")
        for number, mark in enumerate(STAGE_MARKS, start=1)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _pooled(ax: Axes, pooled: pd.DataFrame, styles: dict[str, ArmStyle]) -> None:
    """Bins of equal width on the axis, since their edges are quantiles; arms side by side within each."""
    labels = pooled.drop_duplicates("bin").sort_values("bin").set_index("bin")["label"]
    place = {index: float(position) for position, index in enumerate(labels.index)}
    arms = list(dict.fromkeys(pooled["arm"]))
    for shift, arm in zip(np.linspace(-0.28, 0.28, len(arms)), styles_first(arms, styles), strict=True):
        rows, style = pooled[pooled["arm"] == arm], styles[arm]
        x = rows["bin"].map(place) + shift
        ax.vlines(x, rows["low"], rows["high"], color=style.color, linewidth=1.2)
        ax.plot(x, rows["mean"], linestyle="", marker=style.marker, color=style.color, markersize=3.5)
    n = pooled.groupby("bin")["n"].sum()
    ticks = [f"{label}\n{_thousands(count)}" for label, count in zip(labels, n, strict=True)]
    ax.set_xticks(range(len(labels)), ticks, fontsize=6.5)
    ax.set_xlabel("response tokens (bins by quantile); below: answers in the bin")
    ax.set_ylabel("share of answers correct")
    ax.set_title("a  Pooled: confounded by difficulty")


def _anytime(ax: Axes, curves: pd.DataFrame, bands: pd.DataFrame, styles: dict[str, ArmStyle]) -> None:
    draw_curves(ax, curves, bands, styles)
    ax.set_title("b  Anytime curve")
    ax.set_xlabel("budget: tokens per response at most")
    ax.set_ylabel("share correct and within budget")


def _within(ax: Axes, rows: pd.DataFrame, styles: dict[str, ArmStyle], nothing: float) -> None:
    """Mean and interval per arm, beside the value at which length says nothing."""
    arms = styles_first(list(rows["arm"]), styles)
    for y, arm in enumerate(arms):
        draw_interval(ax, rows[rows["arm"] == arm].iloc[0], y, styles[arm])
    name_rows(ax, [styles[arm].label for arm in arms])
    ax.set_ylim(len(arms) - 0.5, -0.5)
    ax.axvline(nothing, color="#333333", linewidth=0.8, zorder=1)
    ax.margins(x=0.1)


def styles_first(arms: list[str], styles: dict[str, ArmStyle]) -> list[str]:
    """The arms in the order of the legend."""
    return [arm for arm in styles if arm in arms]


def _thousands(n: int) -> str:
    return f"{n / 1000:.1f}k" if n >= 1000 else str(n)
