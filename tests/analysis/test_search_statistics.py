from itertools import combinations
from math import isnan, pi, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.figures.surface import surface
from analysis.statistics import best_of as statistics
from tests.analysis.agreement import agree


def test_expected_maximum_by_hand() -> None:
    # one: (1 + 2 + 4) / 3; two: (1, 2) -> 2, (1, 4) -> 4, (2, 4) -> 4; three: 4
    assert agree([statistics.expected_maximum([4, 1, 2], n) for n in (1, 2, 3)], [7 / 3, 10 / 3, 4])


def test_expected_maximum_is_the_mean_over_all_draws() -> None:
    values = np.random.default_rng(0).normal(size=8)
    values[3] = values[5]
    for n in range(1, 9):
        drawn = [max(chosen) for chosen in combinations(values, n)]
        assert agree(statistics.expected_maximum(values, n), np.mean(drawn))


def test_quantiles_of_the_maximum_by_hand() -> None:
    # the best of two of 1, 2, 4 is 2 in a third of the draws
    assert [statistics.maximum_quantile([1, 2, 4], 2, share) for share in (0.05, 1 / 3, 0.34, 1)] == [2, 2, 4, 4]


def test_many_trials_do_not_overflow() -> None:
    assert agree(statistics.expected_maximum(np.arange(3000.0), 3000), 2999)
    assert agree(statistics.expected_maximum(np.arange(3000.0), 1), 1499.5)


def test_seed_noise_by_hand() -> None:
    # means of trials 1.5, 4.5, of seeds 2, 4, of all 3: every residual is +-0.5, on one degree of freedom
    assert agree(statistics.seed_noise(np.array([[1.0, 2.0], [3.0, 6.0]])), 1.0)
    assert isnan(statistics.seed_noise(np.array([[1.0, 2.0]])))


def test_what_a_seed_adds_to_every_trial_is_no_noise() -> None:
    assert agree(statistics.seed_noise(np.array([[0.1], [0.5], [0.2]]) + np.array([0.0, 3.0])), 0.0)


@pytest.mark.parametrize(("trials", "wanted"), [(1, 0.0), (2, 1 / sqrt(pi)), (3, 1.5 / sqrt(pi))])
def test_luck_of_the_best_by_hand(trials: int, wanted: float) -> None:
    assert agree(statistics.luck_of_the_best(2.0, trials, 4), wanted)


def test_slope_per_doubling_by_hand() -> None:
    # 2, 4, 8: the first seed gains 0.1 a doubling, the second (0.5 - 0.1) / 2
    values = np.array([[0.1, 0.2, 0.3], [0.1, 0.1, 0.5]])
    slope = statistics.contrast(statistics.doublings([2, 4, 8]), values, 1)
    theirs = stats.ttest_1samp([0.1, 0.2], 0.0)
    interval = theirs.confidence_interval()
    assert agree([slope.difference, slope.p], [0.15, theirs.pvalue])
    assert agree([slope.low, slope.high], [interval.low, interval.high])


def test_curvature_by_hand() -> None:
    x = np.array([1.0, 3.0, 5.0, 7.0])
    assert agree(statistics.contrast(x, np.array([x**2, 3 * x**2 + x]), 2).difference, 2.0)


@pytest.mark.parametrize("degree", [1, 2])
def test_flat_values_have_no_slope_whatever_their_rounding(degree: int) -> None:
    values = np.repeat([[0.81], [0.83], [0.79], [0.87], [0.85]], 5, axis=1)
    flat = statistics.contrast(statistics.doublings([2, 8, 32, 128, 512]), values, degree)
    assert (flat.difference, flat.low, flat.high, flat.p) == (0.0, 0.0, 0.0, 1.0)


def test_the_trend_keeps_its_level_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(600, 5, 5)) + rng.normal(size=(600, 5, 1))
    share = np.mean([statistics.contrast(np.arange(5.0), values, 1).p < 0.05 for values in noise])
    assert 0.03 < share < 0.07


def test_a_surface_finds_a_plane_and_stays_within_the_hull() -> None:
    points = pd.DataFrame({"a": [0.1, 1.0, 10.0, 0.2, 3.0, 8.0], "b": [1.0, 2.0, 1.5, 3.0, 2.5, 4.0]})
    found = surface(points, np.log(points["a"]) + points["b"], ["log", "linear"])
    assert found is not None
    table = found.table
    assert agree(table["height"], np.log(table["x"]) + table["y"])
    assert found.predicted > 0.99
    # (10, 4) and (0.1, 4) are corners of the box and outside the hull
    assert not ((table["x"] > 9.9) & (table["y"] > 3.9)).any()
    assert not ((table["x"] < 0.11) & (table["y"] > 3.9)).any()


def test_a_surface_of_noise_says_that_it_predicts_nothing() -> None:
    rng = np.random.default_rng(3)
    points, values = pd.DataFrame(rng.random((30, 2))), pd.Series(rng.normal(size=30))
    found = surface(points, values, ["linear", "linear"])
    assert found is not None
    assert found.predicted < 0.1


@pytest.mark.parametrize("points", [[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)], [(1, 2)] * 6, [(1, 1), (2, 1), (1, 3)]])
def test_points_that_span_no_area_have_no_surface(points: list[tuple[int, int]]) -> None:
    assert surface(pd.DataFrame(points), pd.Series(range(len(points)), dtype=float), ["log", "log"]) is None
