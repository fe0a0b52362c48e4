from math import isnan, pi, sqrt

import numpy as np
import pytest

from analysis.statistics.best_of import (
    expected_maximum_of_normals,
    luck_of_the_best,
    seed_noise,
)
from tests.analysis.agreement import agree


def test_expected_maximum_of_equal_normals() -> None:
    # E[max] of n standard normals: 0, 1/sqrt(pi), 3/(2 sqrt(pi)); n = 1, 2, 3 (order statistics, e.g. David 1981)
    known = [0.0, 1 / sqrt(pi), 1.5 / sqrt(pi)]
    assert np.allclose([expected_maximum_of_normals(np.ones(n)) for n in (1, 2, 3)], known, atol=1e-6)
    assert expected_maximum_of_normals(np.array([])) == 0.0
    assert np.isclose(expected_maximum_of_normals(np.full(3, 0.02)), 0.02 * known[2], atol=1e-8)


def test_expected_maximum_of_unequal_normals_by_simulation() -> None:
    deviations = np.array([0.5, 1.0, 2.0])
    draws = np.random.default_rng(0).normal(size=(400_000, 3)) * deviations
    assert abs(expected_maximum_of_normals(deviations) - draws.max(axis=1).mean()) < 0.005


def test_seed_noise_by_hand() -> None:
    # means of trials 1.5, 4.5, of seeds 2, 4, of all 3: every residual is +-0.5, on one degree of freedom
    assert agree(seed_noise(np.array([[1.0, 2.0], [3.0, 6.0]])), 1.0)
    assert isnan(seed_noise(np.array([[1.0, 2.0]])))


def test_what_a_seed_adds_to_every_trial_is_no_noise() -> None:
    assert agree(seed_noise(np.array([[0.1], [0.5], [0.2]]) + np.array([0.0, 3.0])), 0.0)


@pytest.mark.parametrize(("trials", "wanted"), [(1, 0.0), (2, 1 / sqrt(pi)), (3, 1.5 / sqrt(pi))])
def test_luck_of_the_best_by_hand(trials: int, wanted: float) -> None:
    assert agree(luck_of_the_best(2.0, trials, 4), wanted)
