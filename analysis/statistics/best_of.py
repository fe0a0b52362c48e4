"""Values of trials -> how much of the best of several is luck."""

from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special


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
    """How far the best of so many equally good trials lies above their common truth: noise / sqrt(seeds) E[max z].

    E[max z] of independent normals: the integral of 1 - F over x > 0 less that of F over x < 0, F their maximum's.
    """
    x = np.linspace(0.0, 9.0, 4001)
    above, below = special.ndtr(x) ** trials, special.ndtr(-x) ** trials
    return noise / sqrt(seeds) * float(np.trapezoid(1 - above - below, x))
