"""The pieces that a search's figures are drawn from: values, trials without one, axes of parameters, the legend."""

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from analysis.figures.style import ArmStyle

# state: (marker, colour, words in the legend)
WITHOUT_VALUE = {
    "infeasible": ("x", "#D55E00", "infeasible (no value)"),
    "failed": ("+", "#000000", "failed (no value)"),
    "pruned": ("1", "#7A5195", "pruned (no value)"),
}
LABELS = {
    "lr": "lr (learning rate)",
    "epsilon": "epsilon (ratio below 1)",
    "epsilon_high": "epsilon_high (ratio above 1)",
    "delta": "delta (ratio)",
    "beta": "beta (weight of the KL term)",
    "fipo_decay_rate": "fipo_decay_rate (half-life, tokens)",
    "fipo_clip_range": "fipo_clip_range (weight's distance from 1)",
    "fipo_safety_threshold": "fipo_safety_threshold (ratio)",
}
STRIP = 0.1
MOST_TICKS = 7
GREY = "#555555"


def value_axis(axes: Sequence[Axes], values: pd.Series, strip: bool) -> None:
    """One scale for all axes, set by every value there is; `strip` leaves room below it for trials without a value."""
    given = values.dropna()
    span = float(given.max() - given.min()) or 0.02
    low, high = float(given.min()) - 0.06 * span, float(given.max()) + 0.06 * span
    for ax in axes:
        ax.set_ylim(low - strip * STRIP / (1 - STRIP) * (high - low), high)
        ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])
        if strip:
            ax.axhline(STRIP, color="#bbbbbb", linewidth=0.7, zorder=1).set_transform(ax.transAxes)


def draw_trials(ax: Axes, trials: pd.DataFrame, seeds: pd.DataFrame, style: ArmStyle) -> None:
    """Trials at (x, value), hollow where they are over a limit, and each seed at (x, seed_value) as a small dot."""
    ax.plot(seeds["x"], seeds["seed_value"], ".", color=style.color, markersize=2.6, alpha=0.6, zorder=2)
    for outcome, face, edge, width in (
        ("feasible", style.color, "white", 0.5),
        ("over a limit", "white", style.color, 1),
    ):
        rows = trials[trials["outcome"] == outcome]
        ax.plot(
            rows["x"],
            rows["value"],
            linestyle="",
            marker=style.marker,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=width,
            markersize=4.8,
            zorder=4,
        )


def draw_without_value(ax: Axes, trials: pd.DataFrame) -> None:
    """The trials without a value where they happened, in the strip below all values."""
    for state, (marker, color, _) in WITHOUT_VALUE.items():
        x = trials.loc[trials["outcome"] == state, "x"]
        ax.plot(
            x,
            [STRIP / 2] * len(x),
            transform=ax.get_xaxis_transform(),
            linestyle="",
            marker=marker,
            color=color,
            markersize=5.5,
            markeredgewidth=1.3,
            zorder=5,
        )


def parameter_axis(ax: Axes, which: Literal["x", "y"], rows: pd.DataFrame, scale: str) -> None:
    """The axis of a searched parameter, `log`, `linear` or `words`; a tick per value where there are few.

    rows: parameter, label and the axis' own column, x or y.
    """
    parameter = str(rows["parameter"].iloc[0])
    axis = getattr(ax, f"{which}axis")
    ax.set(**{f"{which}label": LABELS.get(parameter, parameter)})
    if scale == "log":
        ax.set(**{f"{which}scale": "log"})
        axis.set_minor_locator(NullLocator())
        axis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
        axis.set_major_formatter(lambda value, _: f"{value:.4g}")
    values = rows.drop_duplicates(which).sort_values(which)
    if scale == "words" or len(values) <= MOST_TICKS:
        axis.set_ticks(list(values[which]), labels=list(values["label"]))
    axis.set_minor_formatter(NullFormatter())
    if scale == "words":
        ax.set(**{f"{which}lim": (-0.5, float(values[which].max()) + 0.5)})
    else:
        ax.margins(x=0.07) if which == "x" else ax.margins(y=0.07)


def trial_legend(figure: Figure, outcomes: set[str], others: Sequence[Line2D] = ()) -> None:
    """What the marks mean, of those that occur, above all panels."""
    mark = {"linestyle": "", "color": GREY}
    handles = [
        Line2D([], [], marker="o", markersize=5.5, label="trial (mean of its seeds)", **mark),  # type: ignore[arg-type]
        Line2D([], [], marker=".", markersize=3.5, alpha=0.6, label="one seed", **mark),  # type: ignore[arg-type]
        *others,
    ]
    if "over a limit" in outcomes:
        hollow = Line2D([], [], marker="o", markersize=5.5, markerfacecolor="white", label="trial over a limit", **mark)  # type: ignore[arg-type]
        handles.append(hollow)
    handles += [
        Line2D([], [], linestyle="", marker=marker, color=color, markeredgewidth=1.3, label=label)
        for state, (marker, color, label) in WITHOUT_VALUE.items()
        if state in outcomes
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)), handlelength=1.6)
