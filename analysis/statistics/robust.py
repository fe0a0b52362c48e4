"""What a diverged run cannot move far: medians, ranks and shares of runs in the place of means and t.

With one diverged run in ten a t interval of 5 seeds that calls itself 95 % covers less than half of the time.
"""

from math import nan, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import brentq
from statsmodels.stats.proportion import proportion_confint

from analysis.statistics.intervals import Difference, Interval, Scores


def shift_interval(scores: Scores, confidence: float = 0.95) -> Difference:
    """The median of all pairwise means of one arm's scores, held against 0, and p (Hodges and Lehmann 1963).

    The interval holds the shifts that the exact signed-rank test does not reject; it is not a number where the seeds
    are so few that the test can reject nothing. p: two-sided, exact without ties.
    """
    values = np.asarray(scores, dtype=float)
    i, j = np.triu_indices(values.size)
    means = np.sort((values[i] + values[j]) / 2)
    if not means.size:
        return Difference(nan, nan, nan, nan)
    distribution = signed_rank_distribution(values.size)
    rejected = int(np.searchsorted(distribution.cumsum(), (1 - confidence) / 2 + 1e-12, side="right"))
    low, high = (float(means[rejected - 1]), float(means[-rejected])) if rejected else (nan, nan)
    positive = float((pd.Series(np.abs(values)).rank().to_numpy() * (values > 0)).sum())
    smaller = min(positive, values.size * (values.size + 1) / 2 - positive)
    p = min(1.0, 2 * float(distribution.cumsum()[int(smaller)]))
    return Difference(float(np.median(means)), low, high, p)


def fewest_pairs(level: float) -> int:
    """The smallest number of pairs of which the exact signed-rank test can reject anything at confidence `level`."""
    return next(n for n in range(1, 200) if 2 * 0.5**n <= 1 - level + 1e-12)


def signed_rank_distribution(n: int) -> NDArray[np.float64]:
    """P(W = w), w = 0..n(n+1)/2: the sum of the ranks of the positive ones among n scores symmetric about 0."""
    counts = np.ones(1)
    for rank in range(1, n + 1):
        counts = np.pad(counts, (0, rank)) + np.pad(counts, (rank, 0))
    return np.asarray(counts / counts.sum())


def share_above(scores: Scores, threshold: float) -> Interval:
    """The share of runs above the threshold, a point of a performance profile."""
    values = np.asarray(scores, dtype=float)
    return binomial_interval(int((values > threshold).sum()), values.size)


def binomial_interval(k: int, n: int) -> Interval:
    """k of n as a share, with Clopper and Pearson's 95 % interval (1934)."""
    low, high = proportion_confint(k, n, method="beta")
    return Interval(k / n, float(low), float(high), n)


def probability_of_improvement(scores: Scores, baseline: Scores) -> Interval:
    """P(a run beats one of the baseline's), ties half: the mean over all pairs of runs (Agarwal and others 2021).

    The 95 % interval is Newcombe's fifth (2006): all t with (t - p)^2 <= z^2 V(t), where c = (m + n)/2 - 1 and V(t) is
    t(1 - t)(1 + c((1 - t)/(2 - t) + t/(1 + t)))/(m n). It needs no resampling, and has a width where one always wins.
    """
    a, b = np.asarray(scores, dtype=float), np.asarray(baseline, dtype=float)
    p = float(((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean())
    z, c = -float(special.ndtri(0.025)), (a.size + b.size) / 2 - 1

    def beyond(t: float) -> float:
        variance = t * (1 - t) * (1 + c * ((1 - t) / (2 - t) + t / (1 + t))) / (a.size * b.size)
        return abs(t - p) - z * sqrt(variance)

    inside = float(np.clip(p, 1e-9, 1 - 1e-9))  # where V is no 0
    low = brentq(beyond, 0.0, inside) if p > 0 else 0.0
    high = brentq(beyond, inside, 1.0) if p < 1 else 1.0
    return Interval(p, float(low), float(high), a.size)
