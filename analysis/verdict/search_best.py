"""The best trial that each loss found, and how far luck alone would lift the best of so many."""

from dataclasses import dataclass
from math import nan
from pathlib import Path

import pandas as pd

from analysis.figures.search_views import ENDED, seed_values, word
from analysis.records.search import PARAMETER, Search
from analysis.statistics.best_of import luck_of_the_best, seed_noise
from analysis.statistics.intervals import t_interval


@dataclass(frozen=True)
class Best:
    """The best feasible trial of a loss; `trial` is None where no trial is feasible.

    luck: by how much the best of as many equally good trials would exceed their common truth by seed noise alone; not
    a number where fewer than two trials share two seeds.
    preset: path of the complete settings; None where `sweeps` has not written them.
    """

    loss: str
    trial: int | None
    value: float
    low: float
    high: float
    seeds: int
    parameters: dict[str, str]
    preset: str | None
    ended: int
    feasible: int
    luck: float


def best_of(search: Search, loss: str) -> Best:
    """The feasible trial of the highest value; of equals the first."""
    trials = search.of(loss)
    ended, feasible = int(trials["outcome"].isin(ENDED).sum()), trials[trials["outcome"] == "feasible"]
    if feasible.empty:
        return Best(loss, None, nan, nan, nan, 0, {}, None, ended, 0, nan)
    row = feasible.iloc[int(feasible["value"].argmax())]
    interval = t_interval(row["values"])
    preset = search.folder / "best" / f"{loss}.json"
    return Best(
        loss=loss,
        trial=int(row["trial"]),
        value=float(row["value"]),
        low=interval.low,
        high=interval.high,
        seeds=interval.n,
        parameters=parameters_of(search, row),
        preset=str(Path(search.given or search.folder) / "best" / preset.name) if preset.is_file() else None,
        ended=ended,
        feasible=len(feasible),
        luck=_luck(search, loss),
    )


def parameters_of(search: Search, row: pd.Series) -> dict[str, str]:
    """A trial's searched parameters as words, those left out that it does not have."""
    names = search.searched(str(row["loss"]))
    return {name: word(row[PARAMETER + name]) for name in names if not pd.isna(row[PARAMETER + name])}


def _luck(search: Search, loss: str) -> float:
    values = seed_values(search)
    feasible = search.trials[(search.trials["loss"] == loss) & (search.trials["outcome"] == "feasible")]
    values = values[(values["loss"] == loss) & values["trial"].isin(feasible["trial"])]
    matrix = values.pivot_table(index="trial", columns="seed", values="seed_value").dropna().to_numpy(float)
    if not matrix.size:
        return nan
    return luck_of_the_best(seed_noise(matrix), len(matrix), matrix.shape[1])
