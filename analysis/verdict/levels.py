"""Blocks that vary a setting: one score per seed, at the level that is best for other seeds or along a line."""

from math import log2
from typing import Any

import numpy as np
import pandas as pd

from analysis.records.design import Block
from analysis.records.outcomes import scores_of

ROUNDING = 1e-12


def by_level(scores: pd.DataFrame, block: Block, arm: str, metric: str) -> pd.DataFrame:
    """A score [seed, place of the level in its block] of an arm, the seeds that have every level."""
    rows = scores_of(scores, block.name, arm)
    table = rows.pivot(index="seed", columns="place", values=metric)
    return table.reindex(columns=range(len(block.levels))).dropna()


def by_value(scores: pd.DataFrame, block: Block, arm: str, metric: str, setting: str) -> pd.DataFrame:
    """The same by the values of one setting, in rising order; over those of another setting the mean.

    Levels that are no positive number, as a threshold of none, have no place on a line and are left out.
    """
    values = {place: value for place, value in enumerate(values_of(block, setting)) if is_on_scale(value)}
    table = by_level(scores, block, arm, metric)[list(values)].rename(columns=values)
    return table.T.groupby(level=0).mean().T


def values_of(block: Block, setting: str) -> list[Any]:
    """The value of one varied setting at each level of the block."""
    place = block.varied.index(setting)
    return [level[place] if isinstance(level, tuple) else level for level in block.levels]


def is_on_scale(value: Any) -> bool:
    """Whether a level has a place on a line over log2."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def best_levels(table: pd.DataFrame) -> dict[int, Any]:
    """A score [seed, level] -> for each seed the level that is best in the mean of all the other seeds."""
    if len(table) < 2:
        return {}
    return {int(seed): table.drop(index=seed).mean().idxmax() for seed in table.index}


def own_best(table: pd.DataFrame) -> pd.Series:
    """By seed, the score at that level: no seed has a say in the level that it is scored at."""
    return pd.Series({seed: table.loc[seed, level] for seed, level in best_levels(table).items()}, dtype=float)


def trend(table: pd.DataFrame, start: float, end: float) -> pd.Series:
    """A score [seed, value] -> by seed, the change from start to end along its own line over log2 of the value.

    A hump or dip in between does not enter it. Empty with fewer than two values or no seed that has all.
    """
    if table.empty or table.shape[1] < 2:
        return pd.Series(dtype=float)
    places = np.array([log2(float(value)) for value in table.columns])
    per_doubling = np.polyfit(places, table.to_numpy(float).T, 1)[0]
    # What rounding leaves of an exact 0 would pass for a slope that all seeds agree on.
    per_doubling[np.abs(per_doubling) * np.ptp(places) < ROUNDING] = 0.0
    return pd.Series(per_doubling * log2(end / start), index=table.index)
