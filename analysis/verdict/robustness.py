"""Over which learning rates a loss holds: the range near its best, and the score at a rate chosen on other seeds."""

from collections.abc import Sequence
from itertools import pairwise
from math import log2
from typing import Any

import numpy as np
import pandas as pd

WITHIN = 0.02  # of the best accuracy: how near is near enough for a rate to count as held


def best_levels(table: pd.DataFrame) -> dict[int, Any]:
    """A score [seed, level] -> for each seed the level that is best in the mean of all the other seeds."""
    if len(table) < 2:
        return {}
    return {int(seed): table.drop(index=seed).mean().idxmax() for seed in table.index}


def own_best(table: pd.DataFrame) -> pd.Series:
    """By seed, the score at that level: no seed has a say in the level that it is scored at."""
    return pd.Series({seed: table.loc[seed, level] for seed, level in best_levels(table).items()}, dtype=float)


def ranges(table: pd.DataFrame) -> pd.Series:
    """A score [seed, level] -> by seed, over how many doublings of the level it stays near its best."""
    levels = [float(level) for level in table.columns]
    return pd.Series({seed: rate_range(levels, row.tolist()) for seed, row in table.iterrows()}, dtype=float)


def rate_range(levels: Sequence[float], values: Sequence[float], within: float = WITHIN) -> float:
    """Over how many doublings of the level the score stays within `within` of its best, straight lines in between.

    All such stretches count, also where they are apart; what lies beyond the ends of the grid is not known and not in.
    """
    places = [log2(level) for level in levels]
    above = np.asarray(values, dtype=float) - (max(values) - within)
    total = 0.0
    for (x0, x1), (y0, y1) in zip(pairwise(places), pairwise(above.tolist()), strict=True):
        if y0 >= 0 and y1 >= 0:
            total += x1 - x0
        elif max(y0, y1) > 0:
            total += (x1 - x0) * max(y0, y1) / abs(y1 - y0)
    return total
