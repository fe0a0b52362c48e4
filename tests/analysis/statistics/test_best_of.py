from itertools import combinations
from math import isnan, pi, sqrt

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.best_of import (
    expected_maximum,
    expected_maximum_of_normals,
    luck_of_the_best,
    maximum_quantile,
    peak_inflation,
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


def test_inflation_is_that_of_the_sampling_error_within_prompts() -> None:
    """Two prompts, one always right, one right in half: only the second's answers can be lucky."""
    final = pd.DataFrame({"step": 2, "prompt_id": list("aaaabbbb"), "correct": [1, 1, 1, 1, 1, 1, 0, 0]})
    evaluations = pd.concat([final.assign(step=1), final])
    # Unbiased variance of one answer: b has 1/4 x 4/3, a none; mean 1/6; of a mean over 8 answers: 1/48.
    assert agree(peak_inflation(evaluations, final), expected_maximum_of_normals(np.full(2, sqrt(1 / 48))))
    assert np.isnan(peak_inflation(evaluations, final.drop_duplicates("prompt_id")))


def test_expected_maximum_is_the_mean_over_all_draws() -> None:
    values = np.random.default_rng(0).normal(size=8)
    values[3] = values[5]
    for n in range(1, 9):
        drawn = [max(chosen) for chosen in combinations(values, n)]
        assert agree(expected_maximum(values, n), np.mean(drawn))


def test_quantiles_of_the_maximum_by_hand() -> None:
    # the best of two of 1, 2, 4 is 2 in a third of the draws
    assert [maximum_quantile([1, 2, 4], 2, share) for share in (0.05, 1 / 3, 0.34, 1)] == [2, 2, 4, 4]


def test_many_trials_do_not_overflow() -> None:
    assert agree(expected_maximum(np.arange(3000.0), 3000), 2999)
    assert agree(expected_maximum(np.arange(3000.0), 1), 1499.5)


def test_seed_noise_by_hand() -> None:
    # means of trials 1.5, 4.5, of seeds 2, 4, of all 3: every residual is +-0.5, on one degree of freedom
    assert agree(seed_noise(np.array([[1.0, 2.0], [3.0, 6.0]])), 1.0)
    assert isnan(seed_noise(np.array([[1.0, 2.0]])))


def test_what_a_seed_adds_to_every_trial_is_no_noise() -> None:
    assert agree(seed_noise(np.array([[0.1], [0.5], [0.2]]) + np.array([0.0, 3.0])), 0.0)


@pytest.mark.parametrize(("trials", "wanted"), [(1, 0.0), (2, 1 / sqrt(pi)), (3, 1.5 / sqrt(pi))])
def test_luck_of_the_best_by_hand(trials: int, wanted: float) -> None:
    assert agree(luck_of_the_best(2.0, trials, 4), wanted)
