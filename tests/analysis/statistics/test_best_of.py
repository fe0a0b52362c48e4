from math import isnan, pi, sqrt

import numpy as np
import pytest

from analysis.statistics.best_of import luck_of_the_best, seed_noise
from tests.analysis.agreement import agree


def test_seed_noise_by_hand() -> None:
    # means of trials 1.5, 4.5, of seeds 2, 4, of all 3: every residual is +-0.5, on one degree of freedom
    assert agree(seed_noise(np.array([[1.0, 2.0], [3.0, 6.0]])), 1.0)
    assert isnan(seed_noise(np.array([[1.0, 2.0]])))


def test_what_a_seed_adds_to_every_trial_is_no_noise() -> None:
    assert agree(seed_noise(np.array([[0.1], [0.5], [0.2]]) + np.array([0.0, 3.0])), 0.0)


@pytest.mark.parametrize(("trials", "wanted"), [(1, 0.0), (2, 1 / sqrt(pi)), (3, 1.5 / sqrt(pi))])
def test_luck_of_the_best_by_hand(trials: int, wanted: float) -> None:
    # E[max] of n standard normals (order statistics, e.g. David 1981), with a standard error of 2 / sqrt(4)
    assert agree(luck_of_the_best(2.0, trials, 4), wanted)
