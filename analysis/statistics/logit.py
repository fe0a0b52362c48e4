"""The slope of a fixed-effect logit with one covariate, by its exact conditional likelihood.

statsmodels' ConditionalLogit walks each group in Python; here all groups take one step of the recursion together.
"""

from math import nan

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
MOST_STEPS = 50
LARGEST_SLOPE = 30.0


def conditional_slope(covariate: Matrix, correct: Matrix) -> float:
    """The beta of P(y | sum y) = exp(beta sum y x) / sum over subsets S of that size of exp(beta sum_S x).

    A row per group, not a number where a row is shorter. Groups that are all right or all wrong say nothing. Not a
    number where the data separate perfectly or no group says anything (Chamberlain 1980).
    """
    valid = ~np.isnan(covariate)
    successes = np.where(valid, correct, 0.0).sum(axis=1).astype(int)
    informative = (successes > 0) & (successes < valid.sum(axis=1))
    if not informative.any():
        return nan
    x, y, valid = covariate[informative], np.where(valid, correct, 0.0)[informative], valid[informative]
    x = np.where(valid, x - np.nanmean(x, axis=1, keepdims=True), 0.0)
    return _newton(x, y, valid, successes[informative])


def _newton(x: Matrix, y: Matrix, valid: NDArray[np.bool_], successes: NDArray[np.int_]) -> float:
    beta = 0.0
    for _ in range(MOST_STEPS):
        mean, variance = _conditional_moments(beta, x, valid, successes)
        information = float(variance.sum())
        if information < 1e-12 or abs(beta) > LARGEST_SLOPE:
            return nan
        # A Newton step of more than 2 has left the region where the quadratic is a fair picture.
        step = float(np.clip(((x * y).sum(axis=1) - mean).sum() / information, -2.0, 2.0))
        beta += step
        if abs(step) < 1e-10:
            return beta
    return nan


def _conditional_moments(
    beta: float, x: Matrix, valid: NDArray[np.bool_], successes: NDArray[np.int_]
) -> tuple[Matrix, Matrix]:
    """Mean and variance of sum_S x over subsets of the observed size, each weighted by exp(beta sum_S x).

    total[k], first[k], second[k]: the weights of all subsets of size k, and their moments; one more answer either
    stays out or joins a subset of size k - 1.
    """
    groups, answers = x.shape
    total, first, second = (np.zeros((groups, answers + 1)) for _ in range(3))
    total[:, 0] = 1.0
    for j in range(answers):
        w, v = np.where(valid[:, j], np.exp(beta * x[:, j]), 0.0)[:, None], x[:, j][:, None]
        second[:, 1:] += w * (second[:, :-1] + 2 * v * first[:, :-1] + v**2 * total[:, :-1])
        first[:, 1:] += w * (first[:, :-1] + v * total[:, :-1])
        total[:, 1:] += w * total[:, :-1]
    rows = np.arange(groups)
    mean = first[rows, successes] / total[rows, successes]
    return mean, second[rows, successes] / total[rows, successes] - mean**2
