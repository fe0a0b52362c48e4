"""The trials of a search -> the tidy tables that its figures draw."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.records.search import PARAMETER, Search
from analysis.statistics.best_of import expected_maximum, maximum_quantile

ENDED = ("feasible", "over a limit", "infeasible", "failed", "pruned")
WITH_VALUE = ("feasible", "over a limit")
LOG_FACTOR = 5.0
BAND = (0.05, 0.95)
METHODS = ("fanova", "ped_anova")


def open_trials(search: Search) -> dict[str, int]:
    """By loss, how many trials of the plan have not ended."""
    going = search.trials["outcome"].isin(["running", "waiting"])
    counts = {loss: int(going[search.trials["loss"] == loss].sum()) for loss in search.losses}
    for loss in search.losses:
        planned = search.planned(loss)
        if planned is not None:
            counts[loss] = max(counts[loss], planned - int((~going[search.trials["loss"] == loss]).sum()))
    return counts


def ended_trials(search: Search) -> pd.DataFrame:
    """A row per trial that has ended: loss, trial, order (from 1), outcome, value, best (feasible, so far), reason."""
    rows = search.trials[search.trials["outcome"].isin(ENDED)].sort_values(["loss", "ended", "trial"])
    rows = rows.assign(order=rows.groupby("loss").cumcount() + 1, counted=rows["value"].where(_feasible(rows)))
    best = rows.groupby("loss")["counted"].cummax()
    rows = rows.assign(best=best.groupby(rows["loss"]).ffill())
    return _in_order(rows[["loss", "trial", "order", "outcome", "value", "best", "reason"]], search)


def seed_values(search: Search) -> pd.DataFrame:
    """A row per seed of a trial that has a value: loss, trial, seed, seed_value."""
    rows = search.trials[search.trials["outcome"].isin(WITH_VALUE)]
    long = rows[["loss", "trial", "seeds", "values"]].explode(["seeds", "values"])
    long = long.rename(columns={"seeds": "seed", "values": "seed_value"}).dropna(subset=["seed"])
    return long.astype({"seed": int, "seed_value": float}).reset_index(drop=True)


def spending(search: Search) -> pd.DataFrame:
    """What n trials drawn from those run bring, per loss and n: trials, mean, low, high, floor.

    A trial without a feasible value is a trial spent: it leaves one with the model before training, whose accuracy is
    the floor of every trial, since that model is always at hand. So no trial is dropped, and none counts as a loss.
    """
    rows = []
    for loss in search.losses:
        ended = search.of(loss)[search.of(loss)["outcome"].isin(ENDED)]
        floor = floor_of(ended)
        kept = np.maximum(ended["value"].where(_feasible(ended), floor).to_numpy(float), floor)
        for n in range(1, len(kept) + 1):
            low, high = (maximum_quantile(kept, n, share) for share in BAND)
            rows.append((loss, n, expected_maximum(kept, n), low, high, floor))
    return pd.DataFrame(rows, columns=["loss", "trials", "mean", "low", "high", "floor"])


def floor_of(trials: pd.DataFrame) -> float:
    """Mean accuracy before training over the trials that recorded it; 0, the least there is, where none did."""
    start = trials["start_accuracy"].dropna()
    return float(start.mean()) if len(start) else 0.0


def slices(search: Search, loss: str) -> pd.DataFrame:
    """A row per ended trial, searched parameter and seed: parameter, x, label, trial, outcome, value, seed_value.

    x is the number, or the place of the word that `label` holds. A trial without a value has one row, without a seed.
    """
    rows = search.of(loss)
    rows = rows[rows["outcome"].isin(ENDED)].merge(seed_values(search), on=["loss", "trial"], how="left")
    parts = []
    for name, space in search.searched(loss).items():
        given = rows.dropna(subset=[PARAMETER + name])
        column = given[PARAMETER + name]
        x = column.astype(float) if search.is_numeric(name) else column.map(_places(space, column))
        label = [word(value) for value in column]
        part = given[["trial", "outcome", "value", "seed", "seed_value"]].assign(parameter=name, x=x, label=label)
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["value"])


def scales(search: Search, loss: str) -> dict[str, str]:
    """The scale of each searched parameter's axis: `words` for words; `log` where it was searched so, or where its
    choices are all positive and lie far apart; else `linear`.
    """
    return {name: _scale(search, name, space) for name, space in search.searched(loss).items()}


def _scale(search: Search, name: str, space: dict[str, Any]) -> str:
    if not search.is_numeric(name):
        return "words"
    if space.get("kind") == "log":
        return "log"
    values = [float(value) for value in space.get("values", [])] if space.get("kind") == "choice" else []
    return "log" if values and min(values) > 0 and max(values) / min(values) > LOG_FACTOR else "linear"


def importance_table(search: Search) -> pd.DataFrame:
    """A row per loss, searched parameter and method, the most important by fANOVA first; trials: how many were used.

    A method that could not be computed, or that leaves a parameter out, has no number there. Losses with one searched
    parameter are left out: it would have all the importance there is.
    """
    rows = []
    for loss in search.losses:
        if len(search.searched(loss)) < 2:
            continue
        of_loss = search.importance.get(loss) or {}
        by_method = {method: of_loss.get(method) or {} for method in METHODS}
        order = sorted(search.searched(loss), key=lambda name: -by_method["fanova"].get(name, -1.0))
        trials = int(of_loss.get("trials") or 0)
        rows += [
            (loss, name, method, values.get(name), trials) for name in order for method, values in by_method.items()
        ]
    table = pd.DataFrame(rows, columns=["loss", "parameter", "method", "importance", "trials"])
    table["importance"] = table["importance"].astype(float)
    known = table.groupby("loss")["importance"].transform("count") > 0
    return table[known].reset_index(drop=True)


def word(value: Any) -> str:
    """A parameter's value as its flag takes it: `true`, `none`, `0.0003`."""
    text = str(value).lower()
    try:
        return text if isinstance(value, bool) else f"{float(text):.4g}"
    except ValueError:
        return text


def _places(space: dict[str, Any], column: pd.Series) -> dict[str, float]:
    """Words in the order of the space, then any other that a trial has."""
    named = [word(value) for value in space.get("values", [])]
    by_word = {str(value): word(value) for value in column}
    order = list(dict.fromkeys([*named, *by_word.values()]))
    return {value: float(order.index(shown)) for value, shown in by_word.items()}


def _feasible(rows: pd.DataFrame) -> pd.Series:
    return rows["outcome"].eq("feasible")


def _in_order(rows: pd.DataFrame, search: Search) -> pd.DataFrame:
    place = {loss: index for index, loss in enumerate(search.losses)}
    rows = rows.assign(place=rows["loss"].map(place)).sort_values(["place", "order"])
    return rows.drop(columns="place").reset_index(drop=True)
