"""A search's trials over each parameter, and the claims on its winners."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from analysis.figures.canvas import Axes, Drawing, grid, handle, in_first_column, legend
from analysis.figures.claims import claim_figures
from analysis.figures.figure import Figure
from analysis.figures.style import SOFT, ArmStyle, Look, Styles, loss_styles, paper
from analysis.formatting import counted
from analysis.records.search import ENDED, PARAMETER, Search, seed_values, word
from analysis.verdict.search import SearchFindings

STRIP, FAR = 0.1, 5.0  # heights of axes for trials without a value; between values that a linear axis would crowd
CLOSEST_TICKS = 0.12  # of the axis
MARKS: dict[str, Look] = {  # of a trial, by its outcome
    "feasible": {"marker": "o", "markersize": 4.0},
    "over a limit": {"marker": "o", "markersize": 4.0, "markerfacecolor": "white"},
    "no value": {"marker": "x", "markersize": 4.5, "markeredgewidth": 1.3},
}


def winner_figures(found: SearchFindings) -> Iterator[Figure]:
    """The claims on the winners, as their own report shows them; none where they have not run."""
    if found.winners is not None:
        yield from (replace(item, name="winners") for item in claim_figures(found.winners) if item.name == "claims")


def slice_figures(found: SearchFindings) -> Iterator[Figure]:
    """The value over each parameter, side by side."""
    search = found.search
    tables = [over_parameter(search, loss, name) for loss in search.losses for name in search.searched(loss)]
    tables = [table for table in tables if table["value"].notna().any()]
    if not tables:
        return
    rows = pd.concat(tables, ignore_index=True)
    counts = [f"{search.label(loss)} {_counts(search.of(loss)['outcome'])}" for loss in search.losses]
    yield Figure(
        "slices",
        "Value over each parameter",
        "Every trial and its seeds. Where other parameters vary too, and a search looks where it found much, a slope "
        "along the points is no effect.",
        draw_slices(rows, loss_styles({loss: search.label(loss) for loss in search.losses})),
        {"trials": rows},
        f"Values of {len(rows.groupby(['loss', 'trial']))} trials over {', '.join(rows['parameter'].unique())}.",
        "Trials without a value (infeasible: diverged or out of memory; failed; pruned) stand in the strip below. "
        f"Trials of {counted(len(search.description['seeds']), 'tuning seed')}: {'; '.join(counts)}.",
    )


def over_parameter(search: Search, loss: str, name: str) -> pd.DataFrame:
    """A row per ended trial and seed: trial, outcome, value, seed, seed_value, loss, parameter, x, label.

    x is the number, or the place of the word that `label` holds. A trial without a value has one row.
    """
    rows = search.of(loss)
    rows = rows[rows["outcome"].isin(ENDED)].merge(seed_values(search), on=["loss", "trial"], how="left")
    rows = rows.dropna(subset=[PARAMETER + name])
    given, label = rows[PARAMETER + name], rows[PARAMETER + name].map(word)
    named = [word(value) for value in search.searched(loss)[name].get("values", [])]
    words = list(dict.fromkeys([*named, *label]))
    x = given if pd.api.types.is_numeric_dtype(search.trials[PARAMETER + name]) else label.map(words.index)
    kept = rows[["trial", "outcome", "value", "seed", "seed_value"]]
    return kept.assign(loss=loss, parameter=name, x=x.astype(float), label=label)


@paper()
def draw_slices(rows: pd.DataFrame, styles: Styles) -> Drawing:
    """Axes per loss and parameter. rows: as `over_parameter` gives them."""
    groups = list(rows.groupby(["loss", "parameter"], sort=False))
    drawing, axes = grid(len(groups), 2 if len(groups) == 4 else 3, 2.15, 0.7, sharey=True)
    outcomes = rows["outcome"].where(rows["outcome"].isin(MARKS), "no value")
    values, strip = rows[["value", "seed_value"]].to_numpy(float), STRIP * outcomes.eq("no value").any()
    room = 0.06 * float(np.nanmax(values) - np.nanmin(values)) or 0.01
    low, high = float(np.nanmin(values)) - room, float(np.nanmax(values)) + room
    for ax, ((loss, parameter), of_axes) in zip(axes, groups, strict=True):
        style = styles[str(loss)]
        draw_trials(ax, of_axes.assign(outcome=outcomes), style)
        parameter_axis(ax, rows[rows["parameter"] == parameter])  # the same for every loss
        ax.set(title=style.label if len(styles) > 1 else "", ylabel="final accuracy" if in_first_column(ax) else "")
        ax.set_ylim(low - strip / (1 - strip) * (high - low), high)
        ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])
        if strip:
            ax.axhline(STRIP, color="#bbbbbb", linewidth=0.7, zorder=1).set_transform(ax.transAxes)
    names = {"feasible": "trial (mean of its seeds)", "over a limit": "trial over a limit", "no value": "no value"}
    marks = [handle(names[one], linestyle="", color=SOFT, **MARKS[one]) for one in MARKS if outcomes.eq(one).any()]
    legend(drawing, [*marks, handle("one seed", linestyle="", color=SOFT, marker=".", markersize=3.5)])
    return drawing


def draw_trials(ax: Axes, rows: pd.DataFrame, style: ArmStyle) -> None:
    """Trials at (x, value), hollow where over a limit, seeds as small dots; without a value in the strip below."""
    ax.plot(rows["x"], rows["seed_value"], ".", color=style.color, markersize=2.6, alpha=0.6, zorder=2)
    for outcome, of_outcome in rows.drop_duplicates("trial").groupby("outcome"):
        look: Look = {"color": style.color, "linestyle": "", "zorder": 4} | MARKS[str(outcome)]
        if outcome == "no value":
            ax.plot(of_outcome["x"], [STRIP / 2] * len(of_outcome), transform=ax.get_xaxis_transform(), **look)
        else:
            ax.plot(of_outcome["x"], of_outcome["value"], **look | {"marker": style.marker})


def parameter_axis(ax: Axes, rows: pd.DataFrame) -> None:
    """Words in their order, numbers that lie far apart on a log scale; a tick per value where they have room."""
    values = rows.drop_duplicates("x").sort_values("x")
    numbers = values["label"].str.fullmatch(r"[-+.\de]+").all()
    is_log = numbers and values["x"].min() > 0 and values["x"].max() > FAR * values["x"].min()
    places = np.log(values["x"]) if is_log else values["x"]
    if is_log:
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=12))
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    if not numbers or places.diff().min() > CLOSEST_TICKS * np.ptp(places):
        ax.set_xticks(list(values["x"]), list(values["x"].map("{:.2g}".format) if numbers else values["label"]))
    ax.xaxis.set_minor_formatter(NullFormatter())
    room = 0.07 * float(np.ptp(places)) or 0.5
    ends = float(places.min()) - room, float(places.max()) + room
    ax.set_xlim(*(np.exp(ends) if is_log else ends))
    ax.set_xlabel(str(rows["parameter"].iloc[0]))


def _counts(outcomes: pd.Series) -> str:
    return ", ".join(f"{n} {outcome}" for outcome, n in outcomes.value_counts().items())
