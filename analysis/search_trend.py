"""A designed grid over one parameter -> does the value rise or fall with it? Never the best value against the worst."""

from dataclasses import dataclass
from math import nan

import numpy as np

from analysis.decisions import FEWEST_SEEDS, LEVEL
from analysis.formatting import bracket, listed, p_value, signed
from analysis.search_records import PARAMETER, Search
from analysis.search_statistics import contrast, doublings
from analysis.search_views import ENDED, grid_values, word
from analysis.statistics import Difference
from analysis.style import arm_label


@dataclass(frozen=True)
class Trend:
    """The slope of a grid over one parameter, a slope per seed, tested over the seeds that finished at every value.

    unit: the slope is per `doubling` of the value, or per `unit` where some value is not positive.
    missing: values of the grid at which no trial has a value. lost_seeds: tuning seeds that lack some other value.
    p and curvature_p are None below 5 seeds. curvature: the quadratic coefficient, looked at beside, no claim.
    """

    loss: str
    parameter: str
    values: list[float]
    missing: list[float]
    seeds: list[int]
    lost_seeds: list[int]
    unit: str
    slope: float
    low: float
    high: float
    p: float | None
    curvature: float
    curvature_p: float | None
    word: str

    @property
    def sentence(self) -> str:
        """Slope, interval, p and what they support, with all that did not enter."""
        head = f"{self.parameter} in {arm_label(self.loss)}, {len(self.values)} values x {len(self.seeds)} seeds: slope"
        p = "" if self.p is None else f", p {p_value(self.p)}"
        slope = f"{signed(self.slope, 4)} {bracket(self.low, self.high, 4)} per {self.unit}{p}"
        return f"{head} {slope}: {self.word}.{_bend(self)}{_without(self)}"


def trend(search: Search, loss: str) -> Trend | None:
    """The trend of a loss in a designed grid; None where the search was none, or over more than one parameter."""
    searched = list(search.searched(loss))
    if search.description["sampler"].get("name") != "grid" or len(searched) != 1 or not search.is_numeric(searched[0]):
        return None
    seeds, means = grid_values(search, loss, searched[0])
    if len(means) < 2:
        return None
    matrix = seeds.pivot_table(index="seed", columns="x", values="seed_value").dropna()
    values = [float(x) for x in means["x"]]
    x = doublings(values) if values[0] > 0 else np.asarray(values)
    nothing = Difference(nan, nan, nan, nan)
    slope = contrast(x, matrix.to_numpy(float), 1) if len(matrix) else nothing
    bend = contrast(x, matrix.to_numpy(float), 2) if len(matrix) and len(values) > 2 else nothing
    enough = len(matrix) >= FEWEST_SEEDS
    column = search.of(loss)[PARAMETER + searched[0]]
    tried = column[search.of(loss)["outcome"].isin(ENDED)].dropna().astype(float)
    return Trend(
        loss=loss,
        parameter=searched[0],
        values=values,
        missing=sorted(set(tried) - set(values)),
        seeds=[int(seed) for seed in matrix.index],
        lost_seeds=sorted({int(seed) for seed in search.description["seeds"]} - set(matrix.index)),
        unit="doubling" if values[0] > 0 else "unit",
        slope=slope.difference,
        low=slope.low,
        high=slope.high,
        p=slope.p if enough else None,
        curvature=bend.difference,
        curvature_p=bend.p if enough and len(values) > 2 else None,
        word=_word(slope, len(matrix)),
    )


def _word(slope: Difference, seeds: int) -> str:
    if seeds < FEWEST_SEEDS:
        return f"insufficient seeds, no significance is claimed from fewer than {FEWEST_SEEDS}"
    if slope.p >= LEVEL:
        return "no trend is supported, which is not evidence that there is none"
    return f"a {'rising' if slope.difference > 0 else 'falling'} trend is supported"


def _bend(item: Trend) -> str:
    if item.curvature_p is None:
        return ""
    return (
        f" Curvature, looked at beside it without a claim: {signed(item.curvature, 4)}, p {p_value(item.curvature_p)}."
    )


def _without(item: Trend) -> str:
    words = ""
    if item.missing:
        words += f" Without a value, and so not in the trend: {listed([word(value) for value in item.missing])}."
    if item.lost_seeds:
        seeds = listed([str(seed) for seed in item.lost_seeds])
        words += f" Seeds left out, since they did not finish at every value: {seeds}."
    return words
