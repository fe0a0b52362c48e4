from itertools import combinations, product
from math import isnan

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.robust import (
    fewest_pairs,
    rank_sum_distribution,
    shift_interval,
    shift_interval_of_one,
    signed_rank_distribution,
)
from tests.analysis.agreement import agree


@pytest.mark.parametrize(("n", "m"), [(1, 2), (3, 4), (5, 5)])
def test_rank_sum_distribution_by_enumeration(n: int, m: int) -> None:
    counts = np.zeros(n * m + 1)
    for chosen in combinations(range(n + m), n):
        counts[sum(chosen) - n * (n - 1) // 2] += 1
    assert agree(rank_sum_distribution(n, m), counts / counts.sum())


def test_signed_rank_distribution_by_enumeration() -> None:
    counts = np.zeros(16)
    for signs in product([0, 1], repeat=5):
        counts[np.dot(signs, [1, 2, 3, 4, 5])] += 1
    assert agree(signed_rank_distribution(5), counts / 32)


def test_the_shift_interval_holds_what_the_rank_test_does_not_reject() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=5), rng.normal(size=6)
        found = shift_interval(a, b, 0.95)
        inside, outside = (found.low + found.high) / 2, found.high + 1e-6
        assert stats.mannwhitneyu(a - inside, b, method="exact").pvalue > 0.05
        assert stats.mannwhitneyu(a - outside, b, method="exact").pvalue <= 0.05
        assert stats.mannwhitneyu(a - (found.low - 1e-6), b, method="exact").pvalue <= 0.05
        assert agree(found.difference, np.median(np.subtract.outer(a, b)))


def test_the_shift_of_one_arm_is_the_signed_rank_tests() -> None:
    values = np.array([0.3, 0.5, -0.1, 0.9, 0.7, 1.1])
    found = shift_interval_of_one(values, 0.95)
    assert agree(found.p, stats.wilcoxon(values, method="exact").pvalue)
    # Rejected at 5 % with 6 seeds: sums of ranks 0 alone, so the ends are the smallest and largest mean of a pair.
    assert agree([found.low, found.high], [-0.1, 1.1])


def test_too_few_seeds_have_no_shift_interval() -> None:
    assert isnan(shift_interval([1, 2, 3], [4, 5, 6]).low)
    assert isnan(shift_interval_of_one([1, 2, 3, 4, 5]).low)  # 2 / 32 > 5 %
    assert isnan(shift_interval([], [1.0]).difference)


def test_ties_make_the_shift_interval_no_smaller() -> None:
    assert shift_interval([1.0] * 5, [1.0] * 5).low == shift_interval([1.0] * 5, [1.0] * 5).high == 0.0


@pytest.mark.parametrize(("level", "pairs"), [(0.90, 5), (0.95, 6), (0.99, 8), (1 - 0.05 / 6, 8), (1 - 0.05 / 7, 9)])
def test_fewest_pairs_are_where_the_interval_begins_to_exist(level: float, pairs: int) -> None:
    assert fewest_pairs(level) == pairs
    values = np.arange(1.0, pairs + 1)
    assert not isnan(shift_interval_of_one(values, level).low)
    assert isnan(shift_interval_of_one(values[1:], level).low)
