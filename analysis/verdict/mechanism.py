"""What is left of a gain when the weights lose their credit: each placebo's share of it, and how hard it trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.figures.style import arm_label
from analysis.formatting import listed, plain
from analysis.records.blocks import COURSE, BlockStudy
from analysis.statistics.decisions import FEWEST_SEEDS
from analysis.statistics.intervals import Interval, t_interval

Array = NDArray[np.float64]
# how the names of arms begin whose weights or blame are the whole's but for the places where they fall
WITHOUT_PLACES = ("wide_sign_mean", "wide_shuffle", "sign_mean", "shuffle", "random_blame", "damp")


@dataclass(frozen=True)
class Share:
    """The mean of a ratio of two paired gains, and Fieller's interval.

    kind: `interval` (low to high), `unbounded` (the gain in the denominator is not told from 0, so shares of any size
    fit), `few` (fewer seeds than an interval needs).
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
        why = "too few seeds" if self.kind == "few" else "no bounded interval: the gain itself is not told from 0"
        return f"{plain(self.share, 2)} [{why}]"


@dataclass(frozen=True)
class Mechanism:
    """A block of placebos: every arm's gain over the baseline, and the share of the gain of `whole` that it has.

    gains: a row per arm and seed: arm, seed, gain. means: a row per arm: arm, mean, low, high, n (95 % t, paired).
    shares: by placebo. course: a row per arm, the mean of each of COURSE, and how many `collapsed`.
    """

    block: str
    baseline: str
    whole: str
    gains: pd.DataFrame
    means: pd.DataFrame
    shares: Mapping[str, Share]
    course: pd.DataFrame

    @property
    def share_words(self) -> str:
        """The shares in words, or nothing."""
        return listed([f"{arm_label(arm)} {share.words}" for arm, share in self.shares.items()])


def mechanism(found: BlockStudy, block: str, baseline: str, whole: str, metric: str) -> Mechanism | None:
    """The gains of the block's arms over `baseline`, seed by seed, beside that of `whole`; None without their runs."""
    rows = found.of(block)
    table = rows.pivot(index="seed", columns="arm", values=metric)
    if not {baseline, whole} <= set(table):
        return None
    arms = [arm for arm in found.blocks[block].arms if arm in table and arm != baseline]
    gains = {arm: (table[arm] - table[baseline]).dropna() for arm in arms}
    means = [{"arm": arm, **vars(_interval(values))} for arm, values in gains.items()]
    placebos = [arm for arm in arms if arm.startswith(WITHOUT_PLACES)]
    shared = {arm: gains[arm].index.intersection(gains[whole].index) for arm in placebos}
    return Mechanism(
        block=block,
        baseline=baseline,
        whole=whole,
        gains=pd.DataFrame(
            [{"arm": arm, "seed": seed, "gain": gain} for arm, values in gains.items() for seed, gain in values.items()]
        ),
        means=pd.DataFrame(means),
        shares={
            arm: fieller(gains[arm][at].to_numpy(float), gains[whole][at].to_numpy(float)) for arm, at in shared.items()
        },
        course=_course(rows, [baseline, *arms]),
    )


def fieller(part: Array, whole: Array, confidence: float = 0.95) -> Share:
    """mean(part) / mean(whole) of paired gains, with Fieller's interval (1954): the ratios that are not rejected.

    The ratio r is rejected where part - r whole, seed by seed, has a mean that a t test tells from 0.
    """
    n = len(part)
    if n < FEWEST_SEEDS:
        return Share(float(part.mean() / whole.mean()) if n else nan, nan, nan, "few")
    t2 = float(stats.t.ppf((1 + confidence) / 2, n - 1)) ** 2 / n
    covariance = np.cov(part, whole, ddof=1)
    aa, ab, bb = float(covariance[0, 0]), float(covariance[0, 1]), float(covariance[1, 1])
    a, b = float(part.mean()), float(whole.mean())
    square, middle, constant = b**2 - t2 * bb, a * b - t2 * ab, a**2 - t2 * aa
    if square <= 0:
        return Share(a / b, nan, nan, "unbounded")
    half = sqrt(max(0.0, middle**2 - square * constant)) / square  # below 0 by rounding alone
    return Share(a / b, middle / square - half, middle / square + half, "interval")


def _interval(values: pd.Series) -> Interval:
    return t_interval(values.to_numpy(float))


def _course(rows: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """How hard each arm trained: means over its runs of what its updates looked like."""
    known = [name for name in COURSE if name in rows]
    means = rows.groupby("arm")[known].mean().assign(collapsed=rows.groupby("arm")["collapsed"].sum())
    return means.reindex(list(arms)).reset_index()
