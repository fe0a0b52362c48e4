"""A search's trials in the order in which they ended and over each parameter."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from analysis.figures.canvas import Axes, Drawing, Line2D, grid, handle, in_first_column, legend, whole_steps
from analysis.figures.claims import claim_figures
from analysis.figures.figure import Figure
from analysis.figures.style import ArmStyle, Look, Styles, loss_styles, paper
from analysis.formatting import counted, plain
from analysis.records.search import ENDED, PARAMETER, Search, seed_values, word
from analysis.verdict.search import SearchFindings

VALUE = "final accuracy (tuning prompts)"
# state: (marker, colour)
WITHOUT_VALUE = {"infeasible": ("x", "#D55E00"), "failed": ("+", "#000000"), "pruned": ("1", "#7A5195")}
STRIP, CLOSEST_TICKS, LOG_FACTOR = 0.1, 0.12, 5.0


def winner_figures(found: SearchFindings) -> Iterator[Figure]:
    """The claims on the winners, as their own report shows them; none where they have not run."""
    if found.winners is not None:
        yield from (replace(item, name="winners") for item in claim_figures(found.winners) if item.name == "claims")


def ended_trials(search: Search) -> pd.DataFrame:
    """The trials that have ended with `order` (from 1, within a loss) and `best`, the best feasible value so far."""
    rows = search.trials[search.trials["outcome"].isin(ENDED)]
    place = {loss: index for index, loss in enumerate(search.losses)}
    rows = rows.assign(place=rows["loss"].map(place)).sort_values(["place", "ended", "trial"], ignore_index=True)
    feasible = rows["value"].where(rows["outcome"] == "feasible")
    best = feasible.groupby(rows["loss"]).cummax().groupby(rows["loss"]).ffill()
    return rows.assign(order=rows.groupby("loss").cumcount() + 1, best=best).drop(columns="place")


def over_parameter(search: Search, loss: str, name: str) -> pd.DataFrame:
    """A row per ended trial and seed: loss, parameter, x, label, trial, outcome, value, seed_value.

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
    return rows[["trial", "outcome", "value", "seed", "seed_value"]].assign(loss=loss, parameter=name, x=x, label=label)


def scale_of(search: Search, loss: str, name: str) -> str:
    """`words`; `log` where it was searched so, or where its choices are positive and lie far apart; else `linear`."""
    if not search.is_numeric(name):
        return "words"
    space = search.searched(loss)[name]
    values = [float(value) for value in space.get("values", []) if value is not None] or [1.0]
    far = min(values) > 0 and max(values) / min(values) > LOG_FACTOR
    return "log" if space.get("kind") == "log" or far else "linear"


def draw_trials(ax: Axes, trials: pd.DataFrame, seeds: pd.DataFrame, style: ArmStyle) -> None:
    """Trials at (x, value), hollow where over a limit, seeds as small dots; without a value in the strip below."""
    ax.plot(seeds["x"], seeds["seed_value"], ".", color=style.color, markersize=2.6, alpha=0.6, zorder=2)
    for outcome, face, edge in (("feasible", style.color, "white"), ("over a limit", "white", style.color)):
        rows = trials[trials["outcome"] == outcome]
        look: Look = {"marker": style.marker, "markerfacecolor": face, "markeredgecolor": edge, "markersize": 4.8}
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


def parameter_axis(ax: Axes, rows: pd.DataFrame, scale: str) -> None:
    """The x axis of a parameter; a tick per value where they have room. rows: parameter, x, label."""
    ax.set_xlabel(str(rows["parameter"].iloc[0]))
    if scale == "log":
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    values = rows.drop_duplicates("x").sort_values("x")
    places = np.log(values["x"]) if scale == "log" else values["x"]
    if scale == "words" or places.diff().min() > CLOSEST_TICKS * np.ptp(places):
        labels = values["label"] if scale == "words" else values["x"].map("{:.2g}".format)
        ax.set_xticks(list(values["x"]), labels=list(labels))
    ax.xaxis.set_minor_formatter(NullFormatter())
    room = 0.07 * float(np.ptp(places)) or 0.5
    ends = float(places.min()) - room, float(places.max()) + room
    ax.set_xlim(*(np.exp(ends) if scale == "log" else ends))


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
    legend(drawing, handles)


def trial_counts(search: Search) -> str:
    """How many trials there are, by loss and by what became of them."""
    parts = []
    for loss in search.losses:
        counts = search.of(loss)["outcome"].value_counts()
        words = [f"{counts[outcome]} {outcome}" for outcome in (*ENDED, "running", "waiting") if outcome in counts]
        parts.append(f"{search.label(loss)} {', '.join(words) or 'none yet'}")
    return f"Trials of {counted(len(search.description['seeds']), 'tuning seed')}: {'; '.join(parts)}."


def slice_figures(found: SearchFindings) -> Iterator[Figure]:
    """The value over each parameter, side by side; none where no trial has a value."""
    search = found.search
    tables = [over_parameter(search, loss, name) for loss in search.losses for name in search.searched(loss)]
    tables = [table for table in tables if table["value"].notna().any()]
    if not tables:
        return
    rows = pd.concat(tables, ignore_index=True)
    scales = [
        scale_of(search, loss, name) for loss, name in dict.fromkeys(zip(rows["loss"], rows["parameter"], strict=True))
    ]
    names = ", ".join(dict.fromkeys(rows["parameter"]))
    yield Figure(
        "slices",
        "Value over each parameter",
        "Every trial and its seeds. Where other parameters vary too, and a search looks where it found much, a slope "
        "along the points is no effect.",
        draw_slices(rows, scales, _styles(search)),
        {"trials": rows},
        f"Values of {len(rows.groupby(['loss', 'trial']))} trials over {names}.",
        f"Trials without a value stand in the strip below, at the value they had. {trial_counts(search)}",
    )


@paper()
def draw_slices(rows: pd.DataFrame, scales: Sequence[str], styles: Styles) -> Drawing:
    """Axes per loss and parameter. rows: as `over_parameter` gives them; scales: `log`, `linear` or `words` of each."""
    outcomes = set(rows["outcome"])
    drawing, axes = grid(len(scales), 2 if len(scales) == 4 else 3, 2.15, 0.7, sharey=True)
    groups = rows.groupby(["loss", "parameter"], sort=False)
    for ax, scale, (_, of_axes) in zip(axes, scales, groups, strict=True):
        loss = of_axes["loss"].iloc[0]
        style = styles[str(loss)]
        draw_trials(ax, of_axes.drop_duplicates("trial"), of_axes, style)
        alike = rows[rows["parameter"] == of_axes["parameter"].iloc[0]]  # the same axis for every loss
        parameter_axis(ax, alike, scale)
        ax.set_title(style.label if len(styles) > 1 else "")
        ax.set_ylabel("final accuracy" if in_first_column(ax) else "")
    value_axis(axes, pd.concat([rows["value"], rows["seed_value"]]), outcomes)
    trial_legend(drawing, outcomes)
    return drawing


def _styles(search: Search) -> Styles:
    return loss_styles({loss: search.label(loss) for loss in search.losses})


def history_figures(found: SearchFindings) -> Iterator[Figure]:
    """Every trial in the order in which it ended, and the best feasible value so far; not of a design fixed before."""
    if found.search.description["sampler"].get("name") in ("qmc", "random"):
        return
    trials = ended_trials(found.search)[["loss", "trial", "order", "outcome", "value", "best"]]
    trials = trials.rename(columns={"order": "x"})
    seeds = seed_values(found.search).merge(trials[["loss", "trial", "x"]], on=["loss", "trial"])
    last = trials.groupby("loss", sort=False)["best"].last()
    yield Figure(
        "history",
        "Optimisation history",
        "Every trial in the order in which it ended; the line is the best feasible value so far, a maximum of noisy "
        "numbers that rises even among equally good trials.",
        draw_history(trials, seeds, _styles(found.search)),
        {"trials": trials, "seeds": seeds},
        "Values of trials in order. Best so far: "
        + "; ".join(f"{loss} {plain(best)}" for loss, best in last.items())
        + ".",
        "Trials without a value stand in the strip below: infeasible (diverged or out of memory), failed (the process "
        f"died or ended in an error) or pruned. {trial_counts(found.search)}",
    )


@paper()
def draw_history(trials: pd.DataFrame, seeds: pd.DataFrame, styles: Styles) -> Drawing:
    """Axes per loss. trials: loss, x, outcome, value, best. seeds: loss, x, seed_value."""
    losses, outcomes = list(dict.fromkeys(trials["loss"])), set(trials["outcome"])
    drawing, axes = grid(len(losses), 3, 2.4, 0.7, sharey=True)
    for ax, loss in zip(axes, losses, strict=True):
        of_loss, style = trials[trials["loss"] == loss], styles[loss]
        ax.plot(of_loss["x"], of_loss["best"], drawstyle="steps-post", color=style.color, linewidth=1.4, zorder=3)
        draw_trials(ax, of_loss, seeds[seeds["loss"] == loss], style)
        ax.set_title(style.label)
        ax.set_xlabel("trials ended")
        whole_steps(ax)
    axes[0].set_ylabel(VALUE)
    value_axis(axes, pd.concat([trials["value"], seeds["seed_value"]]), outcomes)
    best = handle("best so far", color="#555555", drawstyle="steps-post", linewidth=1.4)
    trial_legend(drawing, outcomes, [best])
    return drawing
