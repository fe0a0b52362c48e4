"""Figures of a search's course: its history, what n trials bring, and the value over each searched parameter.

Each is a function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from analysis.figures.canvas import grid, whole_steps
from analysis.figures.search_panels import (
    GREY,
    draw_trials,
    draw_without_value,
    parameter_axis,
    trial_legend,
    value_axis,
)
from analysis.figures.style import arm_styles, paper

VALUE = "final accuracy (tuning prompts)"
COLUMNS = 3
ROUND_NUMBERS = tuple(factor * 10**power for power in range(4) for factor in (1, 2, 5))


@paper()
def optimisation_history(trials: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """A panel per loss over the order in which its trials ended, with the best so far.

    trials: loss, x, outcome, value, best. seeds: loss, x, seed_value.
    """
    losses = list(dict.fromkeys(trials["loss"]))
    outcomes = set(trials["outcome"])
    columns = min(COLUMNS, len(losses))
    rows = -(-len(losses) // columns)
    figure, axes = grid(rows, columns, 2.4 * rows + 0.7, sharey=True)
    for ax, (loss, style) in zip(axes, arm_styles(losses).items(), strict=False):
        of_loss = trials[trials["loss"] == loss]
        ax.plot(of_loss["x"], of_loss["best"], drawstyle="steps-post", color=style.color, linewidth=1.4, zorder=3)
        draw_trials(ax, of_loss, seeds[seeds["loss"] == loss], style)
        draw_without_value(ax, of_loss)
        ax.set_title(style.label)
        ax.set_xlabel("trials ended")
        ax.set_xlim(0.5 - 0.02 * trials["x"].max(), 0.5 + 1.02 * trials["x"].max())
        whole_steps(ax)
    for ax in axes[len(losses) :]:
        ax.axis("off")
    axes[0].set_ylabel(VALUE)
    value_axis(axes[: len(losses)], pd.concat([trials["value"], seeds["seed_value"]]), _without(outcomes))
    best = Line2D([], [], color=GREY, drawstyle="steps-post", linewidth=1.4, label="best so far")
    trial_legend(figure, outcomes, [best])
    return figure


@paper()
def expected_maximum_curves(curves: pd.DataFrame) -> Figure:
    """Expected best of n trials with its band, all losses in one panel. curves: loss, trials, mean, low, high."""
    figure, (ax,) = grid(1, 1, 3.4)
    for loss, style in arm_styles(list(dict.fromkeys(curves["loss"]))).items():
        rows = curves[curves["loss"] == loss]
        ax.fill_between(rows["trials"], rows["low"], rows["high"], color=style.color, alpha=0.13, linewidth=0)
        ax.plot(
            rows["trials"],
            rows["mean"],
            color=style.color,
            linestyle=style.linestyle,
            marker=style.marker,
            markevery=[n - 1 for n in ROUND_NUMBERS if n <= len(rows)],
            label=style.label,
        )
    # The means set the scale: the band of a single trial reaches down to the model before training.
    low, high = curves["mean"].min(), curves["high"].max()
    ax.set_ylim(low - 0.15 * (high - low or 0.02), high + 0.08 * (high - low or 0.02))
    most = int(curves["trials"].max())
    ax.set_xscale("log")
    ax.set_xticks([*(n for n in ROUND_NUMBERS if n < 0.8 * most), most], minor=False)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("trials spent, those without a value included")
    ax.set_ylabel(f"best of n: {VALUE}")
    ax.margins(x=0.02)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@paper()
def parameter_slices(rows: pd.DataFrame, scales: dict[str, str], loss: str) -> Figure:
    """A panel per searched parameter of one loss: every trial and seed over the parameter's value.

    rows: parameter, x, label, trial, outcome, value, seed_value. scales: `log`, `linear` or `words` by parameter.
    """
    outcomes, style = set(rows["outcome"]), arm_styles([loss])[loss]
    columns = 2 if len(scales) == 4 else min(COLUMNS, len(scales))
    lines = -(-len(scales) // columns)
    figure, axes = grid(lines, columns, 2.15 * lines + 0.7, sharey=True)
    for ax, (parameter, scale) in zip(axes, scales.items(), strict=False):
        of_parameter = rows[rows["parameter"] == parameter]
        trials = of_parameter.drop_duplicates("trial")
        draw_trials(ax, trials, of_parameter, style)
        draw_without_value(ax, trials)
        parameter_axis(ax, "x", trials, scale)
    for ax in axes[len(scales) :]:
        ax.axis("off")
    for ax in axes[::columns]:
        ax.set_ylabel("final accuracy")
    value_axis(axes[: len(scales)], pd.concat([rows["value"], rows["seed_value"]]), _without(outcomes))
    trial_legend(figure, outcomes)
    return figure


def _without(outcomes: set[str]) -> bool:
    return not outcomes <= {"feasible", "over a limit"}
