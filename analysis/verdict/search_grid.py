"""A designed grid over one parameter -> the tidy tables that its trend, its claims and its figure share."""

from math import nan

import pandas as pd

from analysis.figures.search_views import ENDED, seed_values, word
from analysis.records.search import PARAMETER, Search
from analysis.statistics.intervals import t_interval

# Numbers that switch their parameter off: 0 is no narrow clip range, it is none.
OFF = {"fipo_clip_range": 0.0}


def grid_parameter(search: Search, loss: str) -> str | None:
    """The parameter of a designed grid over one alone; None for every other search."""
    searched = list(search.searched(loss))
    designed = search.description["sampler"].get("name") == "grid"
    return searched[0] if designed and len(searched) == 1 else None


def on_scale(parameter: str, values: pd.Series) -> pd.Series:
    """The values as numbers; not a number where one has no place on the scale: `none`, `true`, a clip range of 0."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    return numbers.mask(numbers.eq(OFF.get(parameter, nan)))


def grid_values(search: Search, loss: str, parameter: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A grid's seeds (x, label, seed, seed_value) and means (x, label, mean, low, high, n), in rising order of x.

    What has no place on the scale comes last, with a label and no x.
    """
    seeds = seed_values(search).merge(_places(search, loss, parameter), on=["loss", "trial"])
    seeds = seeds[["x", "label", "seed", "seed_value"]].sort_values(["x", "label", "seed"], ignore_index=True)
    means = [
        {"x": of_value["x"].iloc[0], "label": label, **vars(t_interval(of_value["seed_value"].to_numpy(float)))}
        for label, of_value in seeds.groupby("label", sort=False)
    ]
    return seeds, pd.DataFrame(means, columns=["x", "label", "mean", "low", "high", "n"])


def blocks(seeds: pd.DataFrame) -> pd.DataFrame:
    """A row per seed that has a value everywhere on the scale, a column per x: what a trend is tested over."""
    return seeds.dropna(subset=["x"]).pivot_table(index="seed", columns="x", values="seed_value").dropna()


def without_value(search: Search, loss: str, parameter: str) -> pd.DataFrame:
    """The grid's trials that ended without a value: trial, x, label, outcome."""
    rows = search.of(loss)[search.of(loss)["outcome"].isin(ENDED) & search.of(loss)["value"].isna()]
    placed = rows[["loss", "trial", "outcome"]].merge(_places(search, loss, parameter), on=["loss", "trial"])
    return placed[["trial", "x", "label", "outcome"]].sort_values(["x", "label"], ignore_index=True)


def _places(search: Search, loss: str, parameter: str) -> pd.DataFrame:
    """Where each trial of the loss lies: loss, trial, x, label."""
    rows = search.of(loss).dropna(subset=[PARAMETER + parameter])
    given = rows[PARAMETER + parameter]
    return rows[["loss", "trial"]].assign(x=on_scale(parameter, given), label=[word(value) for value in given])
