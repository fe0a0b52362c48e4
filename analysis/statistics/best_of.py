"""Values of trials -> what n trials bring, how lucky the best is, and whether the value rises with a parameter."""

from math import inf, log2, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special, stats

from analysis.statistics.intervals import Difference, Scores, paired_t

ROUNDING = 1e-12


def expected_maximum(values: Scores, n: int) -> float:
    """E[max of n of the N values drawn without replacement] = sum_i v_(i) C(i - 1, n - 1) / C(N, n).

    Dodge et al. 2019 (arXiv 1909.03004) ask for this curve and draw with replacement, which is biased low (Tang et al.
    2020, arXiv 2004.13705); without replacement it is unbiased for trials that are drawn independently.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    return float(ordered @ _chance_of_being_best(ordered.size, n))


def maximum_quantile(values: Scores, n: int, share: float) -> float:
    """The value that the best of n drawn without replacement does not exceed with probability `share`."""
    ordered = np.sort(np.asarray(values, dtype=float))
    reached = np.cumsum(_chance_of_being_best(ordered.size, n))
    # The tolerance keeps a sum that is `share` but for rounding from passing on to the next value.
    return float(ordered[int(np.argmax(reached >= share - ROUNDING))])


def _chance_of_being_best(total: int, n: int) -> NDArray[np.float64]:
    """By rank from the smallest, the probability of being the best of n of `total`: C(rank, n - 1) / C(total, n)."""
    rank = np.arange(n - 1, total)
    # In logarithms, since the binomials of a thousand trials overflow.
    chance = np.exp(_log_binomial(rank, n - 1) - _log_binomial(np.array([total]), n))
    return np.concatenate([np.zeros(n - 1), chance / chance.sum()])


def _log_binomial(total: NDArray[np.int64], chosen: int) -> NDArray[np.float64]:
    return special.gammaln(total + 1) - special.gammaln(chosen + 1) - special.gammaln(total - chosen + 1)


def seed_noise(values: NDArray[np.float64]) -> float:
    """The sd of a value [trial, seed] that neither its trial nor its seed explains; needs two of each.

    Seeds are shared by all trials, so what a seed adds to every trial cannot make one of them look best.
    """
    trials, seeds = values.shape
    if min(trials, seeds) < 2:
        return nan
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    return sqrt(float((rest**2).sum()) / ((trials - 1) * (seeds - 1)))


def luck_of_the_best(noise: float, trials: int, seeds: int) -> float:
    """How far the best of so many equally good trials lies above their common truth: noise / sqrt(seeds) E[max z]."""
    return noise / sqrt(seeds) * _expected_maximum_of_normals(trials)


def _expected_maximum_of_normals(n: int) -> float:
    """E[max of n standard normals] = integral of x n phi(x) Phi(x)^(n - 1)."""
    return float(integrate.quad(lambda x: x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1), -inf, inf)[0])


def contrast(x: Scores, values: NDArray[np.float64], degree: int) -> Difference:
    """The leading coefficient of each seed's polynomial in x, tested against 0 by a t test over seeds.

    values: [seed, x]. Every seed is a block of its own: what it adds to all its values drops out of its slope.
    """
    each = slopes(x, values, degree)
    return paired_t(each, np.zeros_like(each))


def slopes(x: Scores, values: NDArray[np.float64], degree: int = 1) -> NDArray[np.float64]:
    """The leading coefficient of each seed's least-squares polynomial in x. values: [seed, x]."""
    places = np.asarray(x, dtype=float)
    each = np.polyfit(places, values.T, degree)[0]
    # What rounding leaves of an exact 0 would pass for a slope that all seeds agree on.
    each[np.abs(each) * np.ptp(places) ** degree < ROUNDING] = 0.0
    return np.asarray(each)


def doublings(values: Scores) -> NDArray[np.float64]:
    """log2 of each value, so that a slope is per doubling."""
    return np.array([log2(value) for value in values])
