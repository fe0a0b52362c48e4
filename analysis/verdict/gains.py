"""What is left of a gain when an arm loses the placement of its weights: each placebo's share of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan, sqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from analysis.formatting import plain
from analysis.records.design import Block
from analysis.records.outcomes import COURSE, PRIMARY, scores_of
from analysis.records.study import Study
from analysis.statistics.intervals import FEWEST_SEEDS, t_interval
from analysis.verdict.questions import sides_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """The mean of a ratio of two paired gains, and Fieller's interval.

    kind: `interval` (low to high), `unbounded` (the gain in the denominator is not distinguishable from 0, so shares of
    any size fit), `few` (fewer seeds than an interval needs).
    """

    share: float
    low: float
    high: float
    kind: str

    @property
    def words(self) -> str:
        """`0.83 [0.41, 1.35]`, or why there is no interval."""
        if self.kind == "interval":
            return f"{plain(self.share, 2)} [{plain(self.low, 2)}, {plain(self.high, 2)}]"
        why = "too few seeds" if self.kind == "few" else "no bounded interval: the gain is not distinguishable from 0"
        return f"{plain(self.share, 2)} [{why}]"


@dataclass(frozen=True)
class Gains:
    """A block of placebos: every arm's gain over the baseline, and the share of the gain of `whole` that placebos have.

    gains: a row per arm and seed: arm, seed, gain in `metric`. means: a row per arm: arm, mean, low, high, n (95 % t,
    paired). shares: by placebo. course: a row per arm, the mean over its runs of each of COURSE.
    """

    block: str
    baseline: str
    whole: str
    metric: str
    gains: pd.DataFrame
    means: pd.DataFrame
    shares: Mapping[str, Share]
    course: pd.DataFrame

    def as_json(self) -> dict[str, Any]:
        """The same for a machine, without seeds and course."""
        named = {name: getattr(self, name) for name in ("block", "baseline", "whole", "metric")}
        shares = {arm: vars(share) for arm, share in self.shares.items()}
        return named | {"means": self.means.to_dict("records"), "shares": shares}


def gains(study: Study, scores: pd.DataFrame) -> list[Gains]:
    """Of every block that varies nothing, for each of its arms that has placebos there."""
    found = []
    for block in (block for block in study.blocks.values() if not block.varied):
        roles = {arm: study.role(arm) for arm in block.arms}
        for whole in dict.fromkeys(role.against for role in roles.values() if role.role == "placebo"):
            if whole is not None and whole in roles:
                against = roles[whole].against
                baseline = against if against is not None and against in roles else block.baseline
                found.append(_gains(study, scores, block, (baseline, whole)))
    return [one for one in found if one is not None]


def fieller(part: Array, whole: Array) -> Share:
    """mean(part) / mean(whole) of paired gains, with Fieller's 95 % interval (1954): the ratios that are not rejected.

    The ratio r is rejected where part - r whole, seed by seed, has a mean that a t test distinguishes from 0.
    """
    n = len(part)
    if n < FEWEST_SEEDS:
        return Share(float(part.mean() / whole.mean()) if n and whole.mean() else nan, nan, nan, "few")
    t2 = float(special.stdtrit(n - 1, 0.975)) ** 2 / n
    covariance = np.cov(part, whole, ddof=1)
    aa, ab, bb = float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])
    a, b = float(part.mean()), float(whole.mean())
    square, middle, constant = b**2 - t2 * bb, a * b - t2 * ab, a**2 - t2 * aa
    if square <= 0:
        return Share(a / b if b else nan, nan, nan, "unbounded")
    half = sqrt(max(0.0, middle**2 - square * constant)) / square  # below 0 by rounding alone
    return Share(a / b, middle / square - half, middle / square + half, "interval")


def _gains(study: Study, scores: pd.DataFrame, block: Block, ends: tuple[str, str]) -> Gains | None:
    """ends: baseline and whole. None without runs of both."""
    baseline, whole = ends
    rows, metric = scores_of(scores, block.name), _metric(study, block, whole)
    table = rows.pivot(index="seed", columns="arm", values=metric)
    if not {baseline, whole} <= set(table):
        return None
    roles = {arm: study.role(arm) for arm in block.arms if arm in table}
    placebos = [arm for arm, role in roles.items() if role.role == "placebo" and role.against == whole]
    arms = [whole, *placebos]
    by_seed = table[arms].sub(table[baseline], axis=0)
    gains = {arm: by_seed[arm].dropna() for arm in arms}
    both = {arm: by_seed[[arm, whole]].dropna().to_numpy(float).T for arm in placebos}
    means = [{"arm": arm, **vars(t_interval(values.to_numpy(float)))} for arm, values in gains.items()]
    long = [(arm, seed, gain) for arm, of_arm in gains.items() for seed, gain in of_arm.items()]
    return Gains(
        block=block.name,
        baseline=baseline,
        whole=whole,
        metric=metric,
        gains=pd.DataFrame(long, columns=["arm", "seed", "gain"]),
        means=pd.DataFrame(means),
        shares={arm: fieller(*pairs) for arm, pairs in both.items()},
        course=rows.groupby("arm")[[name for name in COURSE if name in rows]].mean().reindex([baseline, *arms]),
    )


def _metric(study: Study, block: Block, whole: str) -> str:
    """The one in which the study's first claim about the arm in this block is asked, else the primary one."""
    for claim in study.claims.claims if study.claims else ():
        sides = sides_of(study, claim)
        if len(claim.arms) > 1 and not isinstance(sides, str) and (block.name, whole) in sides:
            return claim.metric
    return PRIMARY
