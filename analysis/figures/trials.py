"""The trials of a search as the tables and marks that its figures share."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from analysis.figures.canvas import Axes, Drawing, Line2D, handle
from analysis.figures.style import ArmStyle, Look
from analysis.records.search import ENDED, PARAMETER, Search, seed_values, word

VALUE = "final accuracy (tuning prompts)"
# state: (marker, colour)
WITHOUT_VALUE = {"infeasible": ("x", "#D55E00"), "failed": ("+", "#000000"), "pruned": ("1", "#7A5195")}
STRIP, CLOSEST_TICKS, LOG_FACTOR = 0.1, 0.12, 5.0


def ended_trials(search: Search) -> pd.DataFrame:
    """The trials that have ended with `order` (from 1, within a loss) and `best`, the best feasible value so far."""
    rows = search.trials[search.trials["outcome"].isin(ENDED)]
    place = {loss: index for index, loss in enumerate(search.losses)}
    rows = rows.assign(place=rows["loss"].map(place)).sort_values(["place", "ended", "trial"], ignore_index=True)
    feasible = rows["value"].where(rows["outcome"] == "feasible")
    best = feasible.groupby(rows["loss"]).cummax().groupby(rows["loss"]).ffill()
    return rows.assign(order=rows.groupby("loss").cumcount() + 1, best=best).drop(columns="place")


def over_parameter(search: Search, loss: str, name: str) -> pd.DataFrame:
    """A row per ended trial and seed: parameter, x, label, trial, outcome, value, seed_value.

    x is the number, or the place of the word that `label` holds. A trial without a value has one row.
    """
    rows = search.of(loss)
    rows = rows[rows["outcome"].isin(ENDED)].merge(seed_values(search), on=["loss", "trial"], how="left")
    rows = rows.dropna(subset=[PARAMETER + name])
    column = rows[PARAMETER + name]
    label = column.map(word)
    named = [word(value) for value in search.searched(loss)[name].get("values", [])]
    words = list(dict.fromkeys([*named, *label]))
    x = column.astype(float) if search.is_numeric(name) else label.map(words.index).astype(float)
    return rows[["trial", "outcome", "value", "seed", "seed_value"]].assign(parameter=name, x=x, label=label)


def scale_of(search: Search, loss: str, name: str) -> str:
    """`words`; `log` where it was searched so, or where its choices are positive and lie far apart; else `linear`."""
    space = search.searched(loss)[name]
    if not search.is_numeric(name):
        return "words"
    values = (
        [float(value) for value in space.get("values", []) if value is not None]
        if space.get("kind") == "choice"
        else []
    )
    far = bool(values) and min(values) > 0 and max(values) / min(values) > LOG_FACTOR
    return "log" if space.get("kind") == "log" or far else "linear"


def draw_trials(ax: Axes, trials: pd.DataFrame, seeds: pd.DataFrame, style: ArmStyle) -> None:
    """Trials at (x, value), hollow where over a limit, seeds as small dots; without a value in the strip below."""
    ax.plot(seeds["x"], seeds["seed_value"], ".", color=style.color, markersize=2.6, alpha=0.6, zorder=2)
    for outcome, face, edge in (("feasible", style.color, "white"), ("over a limit", "white", style.color)):
        rows = trials[trials["outcome"] == outcome]
        look: Look = {
            "marker": style.marker,
            "markerfacecolor": face,
            "markeredgecolor": edge,
            "markersize": 4.8,
        }
        ax.plot(rows["x"], rows["value"], linestyle="", zorder=4, **look)
    for state, (marker, color) in WITHOUT_VALUE.items():
        x = trials.loc[trials["outcome"] == state, "x"]
        mark: Look = {"marker": marker, "color": color, "markersize": 5.5, "markeredgewidth": 1.3}
        ax.plot(x, [STRIP / 2] * len(x), transform=ax.get_xaxis_transform(), linestyle="", zorder=5, **mark)


def value_axis(axes: Sequence[Axes], values: pd.Series, outcomes: set[str]) -> None:
    """One scale for all axes, with room below it for trials without a value where there are any."""
    given, strip = values.dropna(), bool(outcomes & set(WITHOUT_VALUE))
    span = float(given.max() - given.min()) or 0.02
    low, high = float(given.min()) - 0.06 * span, float(given.max()) + 0.06 * span
    for ax in axes:
        ax.set_ylim(low - strip * STRIP / (1 - STRIP) * (high - low), high)
        ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])
        if strip:
            ax.axhline(STRIP, color="#bbbbbb", linewidth=0.7, zorder=1).set_transform(ax.transAxes)


def parameter_axis(ax: Axes, which: Literal["x", "y"], rows: pd.DataFrame, scale: str) -> None:
    """The axis of a parameter; a tick per value where they have room. rows: parameter, label and x or y."""
    axis = getattr(ax, f"{which}axis")
    ax.set(**{f"{which}label": str(rows["parameter"].iloc[0])})
    if scale == "log":
        ax.set(**{f"{which}scale": "log"})
        axis.set_minor_locator(NullLocator())
        axis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
        axis.set_major_formatter(lambda value, _: f"{value:.4g}")
    values = rows.drop_duplicates(which).sort_values(which)
    places = np.log(values[which]) if scale == "log" else values[which]
    if scale == "words" or places.diff().min() > CLOSEST_TICKS * np.ptp(places):
        axis.set_ticks(list(values[which]), labels=list(values["label"]))
    axis.set_minor_formatter(NullFormatter())
    ax.margins(x=0.07) if which == "x" else ax.margins(y=0.07)


def trial_legend(drawing: Drawing, outcomes: set[str], others: Sequence[Line2D] = ()) -> None:
    """What the marks mean, of those that occur, above everything."""
    mark = {"linestyle": "", "color": "#555555"}
    handles = [
        handle("trial (mean of its seeds)", marker="o", markersize=5.5, **mark),
        handle("one seed", marker=".", markersize=3.5, alpha=0.6, **mark),
        *others,
    ]
    if "over a limit" in outcomes:
        handles.append(handle("trial over a limit", marker="o", markersize=5.5, markerfacecolor="white", **mark))
    handles += [
        handle(f"{state} (no value)", linestyle="", marker=marker, color=color, markeredgewidth=1.3)
        for state, (marker, color) in WITHOUT_VALUE.items()
        if state in outcomes
    ]
    drawing.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)), handlelength=1.6)
