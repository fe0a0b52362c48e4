"""Values of trials or evaluations -> what the best of several is worth, and how much of it is luck."""

from math import nan, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from analysis.statistics.intervals import Scores

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
    return noise / sqrt(seeds) * expected_maximum_of_normals(np.ones(trials))


def peak_inflation(evaluations: pd.DataFrame, final: pd.DataFrame) -> float:
    """E[max over t of an evaluation's sampling error], were the skill that of the last evaluations all along.

    evaluations, final: the answers of one run at all evaluations after training began, and at the last ones (step,
    prompt_id, correct). An evaluation's error has variance sum_p q_p (1 - q_p) / (K P^2), K answers to each of P
    prompts; q_p (1 - q_p) without bias from the last evaluations. Where accuracy rose on the way, this is more than
    luck gave. Not a number where no prompt has two answers.
    """
    prompts = final.groupby("prompt_id", observed=True)["correct"].agg(["mean", "count"])
    prompts = prompts[prompts["count"] > 1]
    if prompts.empty:
        return nan
    share, k = prompts["mean"].to_numpy(float), prompts["count"].to_numpy(float)
    variance = float((share * (1 - share) * k / (k - 1)).mean())
    answers = evaluations.groupby("step").size().to_numpy(float)
    return expected_maximum_of_normals(np.sqrt(variance / answers))


def expected_maximum_of_normals(deviations: NDArray[np.float64]) -> float:
    """E[max] of independent normals about 0: the integral of 1 - F over x > 0 less that of F over x < 0."""
    largest = float(deviations.max()) if deviations.size else 0.0
    if largest == 0:
        return 0.0
    x = np.linspace(0.0, 9.0 * largest, 4001)
    within = special.ndtr(x[:, None] / np.maximum(deviations, 1e-300))
    return float(np.trapezoid(1 - within.prod(axis=1) - (1 - within).prod(axis=1), x))
