"""A search's figures in words for whoever cannot see them: tables in, a few sentences with the main numbers out."""

from collections.abc import Sequence

import pandas as pd

from analysis.figures.search_views import word
from analysis.figures.style import arm_label
from analysis.formatting import counted, listed, plain

WITH_VALUE = ("feasible", "over a limit")


def history_alt(trials: pd.DataFrame) -> str:
    """The range of values and where the best came, by loss. trials: loss, x, outcome, value, best."""
    parts = []
    for loss, rows in trials.groupby("loss", sort=False):
        without = _without_value(rows)
        best = rows[rows["best"].eq(rows["best"].max())]
        came = (
            f", best so far {plain(best['best'].iloc[0])} from number {int(best['x'].iloc[0])} on" if len(best) else ""
        )
        parts.append(f"{arm_label(str(loss))}: {counted(len(rows), 'trial')}, {_range(rows['value'])}{came}{without}")
    return f"Values of trials in the order in which they ended. {'; '.join(parts)}."


def expected_maximum_alt(curves: pd.DataFrame) -> str:
    """Where each curve begins and ends. curves: loss, trials, mean."""
    parts = []
    for loss, rows in curves.groupby("loss", sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        parts.append(
            f"{arm_label(str(loss))} from {plain(first['mean'])} with 1 to {plain(last['mean'])} with "
            f"{counted(int(last['trials']), 'trial')}"
        )
    return f"Rising curves of the expected best value against the number of trials: {'; '.join(parts)}."


def slices_alt(rows: pd.DataFrame, loss: str) -> str:
    """What was tried of each parameter, and where the best trial lies. rows: as drawn."""
    trials = rows.drop_duplicates(["parameter", "trial"])
    feasible = trials[trials["outcome"] == "feasible"]
    best = feasible.loc[feasible["value"].eq(feasible["value"].max())].drop_duplicates("parameter")
    at = dict(zip(best["parameter"], best["label"], strict=True))
    parts = []
    for parameter, tried in trials.groupby("parameter", sort=False):
        labels = list(dict.fromkeys(tried.sort_values("x")["label"]))
        span = labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]}"
        parts.append(f"{parameter} {span}, the best trial at {at.get(parameter, 'none')}")
    one = trials.drop_duplicates("trial")
    head = f"{arm_label(loss)}: {counted(len(one), 'trial')}, {_range(one['value'])}{_without_value(one)}"
    return f"{head}, a panel per parameter. Tried: {'; '.join(parts)}."


def contour_alt(surface: pd.DataFrame, trials: pd.DataFrame, parameters: Sequence[str]) -> str:
    """Where the surface is highest and lowest. surface: x, y, height. trials: x, y, value, outcome."""
    ends = []
    heights = surface[["x", "y", "height"]].to_numpy(float)
    for name, row in (("highest", heights[:, 2].argmax()), ("lowest", heights[:, 2].argmin())):
        x, y, height = map(float, heights[row])
        ends.append(f"{name}, {plain(height)}, at {parameters[0]} {word(x)} and {parameters[1]} {word(y)}")
    head = f"Filled contour over {parameters[0]} and {parameters[1]} with {counted(len(trials), 'trial')} as points"
    return f"{head}, {_range(trials['value'])}{_without_value(trials)}. The surface between them is {listed(ends)}."


def importance_alt(table: pd.DataFrame) -> str:
    """Each parameter's importance by both methods. table: loss, parameter, method, importance."""
    parts = []
    for loss, rows in table.groupby("loss", sort=False):
        wide = rows.pivot_table(index="parameter", columns="method", values="importance", sort=False, dropna=False)
        wide = wide.reindex(columns=["fanova", "ped_anova"])
        values = [
            f"{parameter} {plain(row['fanova'], 2)} ({plain(row['ped_anova'], 2)})"
            for parameter, row in wide.iterrows()
        ]
        parts.append(f"{arm_label(str(loss))}: {', '.join(values)}")
    return f"Bars of importance by fANOVA, in brackets PED-ANOVA's. {'; '.join(parts)}."


def grid_alt(means: pd.DataFrame, parameter: str, trend: str, published: pd.DataFrame) -> str:
    """The mean at each value (label, mean), the trend's sentence, and published values (benchmark, at, value)."""
    told = "; ".join(f"{row['label']}: {plain(row['mean'])}" for _, row in means.iterrows())
    alt = f"Final accuracy over {parameter}, mean over seeds at each value: {told}. {trend}"
    for benchmark, rows in published.groupby("benchmark", sort=True):
        values = ", ".join(f"{value:.2f} at {at:g}" for at, value in zip(rows["at"], rows["value"], strict=True))
        alt += f" Published apart, {benchmark}: {values}."
    return alt


def _range(values: pd.Series) -> str:
    given = values.dropna()
    if given.empty:
        return "no value"
    low, high = plain(float(given.min())), plain(float(given.max()))
    return f"value {low}" if low == high else f"values {low} to {high}"


def _without_value(rows: pd.DataFrame) -> str:
    counts = rows.loc[~rows["outcome"].isin(WITH_VALUE), "outcome"].value_counts()
    return "".join(f", {n} {outcome}" for outcome, n in sorted(counts.items()))
