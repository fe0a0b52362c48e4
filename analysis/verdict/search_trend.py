"""A designed grid over one parameter -> does the value rise or fall with it? Never the best value against the worst."""

from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.search_views import word
from analysis.figures.style import arm_label
from analysis.formatting import bracket, listed, p_value, signed
from analysis.records.search import Search
from analysis.statistics.best_of import contrast, doublings
from analysis.statistics.decisions import FEWEST_SEEDS, LEVEL
from analysis.statistics.intervals import Difference
from analysis.verdict.search_grid import blocks, grid_parameter, grid_values, without_value


@dataclass(frozen=True)
class Trend:
    """The slope of a grid over one parameter, a slope per seed, tested over the seeds that finished at every value.

    unit: the slope is per `doubling` of the value, or per `unit` where some value is not positive.
    missing: values of the grid at which no trial has a value. lost_seeds: tuning seeds that lack some other value.
    off_scale: settings without a place on the scale (`none`), which a slope cannot hold.
    p and curvature_p are None below 5 seeds. curvature: the quadratic coefficient, looked at beside, no claim.
    """

    loss: str
    parameter: str
    values: list[float]
    missing: list[float]
    seeds: list[int]
    lost_seeds: list[int]
    off_scale: list[str]
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
        head = f"{self.parameter} in {arm_label(self.loss)}, {len(self.values)} values x {len(self.seeds)} seeds"
        return f"{head}: {self.slope_words}: {self.word}.{_bend(self)}{_without(self)}"

    @property
    def slope_words(self) -> str:
        """The slope with its interval, and p where there are seeds enough for one."""
        p = "" if self.p is None else f", p {p_value(self.p)}"
        return f"slope {signed(self.slope, 4)} {bracket(self.low, self.high, 4)} per {self.unit}{p}"


def trend(search: Search, loss: str) -> Trend | None:
    """The trend of a loss in a designed grid over one parameter with two numbers or more; else None."""
    parameter = grid_parameter(search, loss)
    if parameter is None:
        return None
    seeds, means = grid_values(search, loss, parameter)
    values = [float(x) for x in means["x"].dropna()]
    if len(values) < 2:
        return None
    matrix = blocks(seeds)
    x = _places(values)
    nothing = Difference(nan, nan, nan, nan)
    slope = contrast(x, matrix.to_numpy(float), 1) if len(matrix) else nothing
    bend = contrast(x, matrix.to_numpy(float), 2) if len(matrix) and len(values) > 2 else nothing
    enough = len(matrix) >= FEWEST_SEEDS
    lost = without_value(search, loss, parameter)["x"].dropna()
    return Trend(
        loss=loss,
        parameter=parameter,
        values=values,
        missing=sorted(set(lost.astype(float)) - set(values)),
        seeds=[int(seed) for seed in matrix.index],
        lost_seeds=sorted({int(seed) for seed in search.description["seeds"]} - set(matrix.index)),
        off_scale=[str(label) for label in means.loc[means["x"].isna(), "label"]],
        unit="doubling" if values[0] > 0 else "unit",
        slope=slope.difference,
        low=slope.low,
        high=slope.high,
        p=slope.p if enough else None,
        curvature=bend.difference,
        curvature_p=bend.p if enough and len(values) > 2 else None,
        word=_word(slope, len(matrix)),
    )


def trend_line(search: Search, item: Trend) -> pd.DataFrame:
    """Two ends (x, y) of the tested line: the mean slope through the mean of all values that were tested."""
    seeds, _ = grid_values(search, item.loss, item.parameter)
    places = _places(item.values)
    height = float(np.mean(blocks(seeds).to_numpy(float))) if item.seeds else nan
    ends = [item.values[0], item.values[-1]]
    return pd.DataFrame({"x": ends, "y": height + item.slope * (_places(ends) - places.mean())})


def _places(values: list[float]) -> NDArray[np.float64]:
    """Where rising values lie on the scale of the slope: at their log2, or as they are where some is not positive."""
    return doublings(values) if values[0] > 0 else np.asarray(values)


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
    if item.off_scale:
        settings = f"the setting{'s' if len(item.off_scale) > 1 else ''} {listed(item.off_scale)}"
        words += f" Without a place on the scale, and so not in the trend: {settings}."
    if item.missing:
        words += f" Without a value, and so not in the trend: {listed([word(value) for value in item.missing])}."
    if item.lost_seeds:
        seeds = listed([str(seed) for seed in item.lost_seeds])
        words += f" Seeds left out, since they did not finish at every value: {seeds}."
    return words
