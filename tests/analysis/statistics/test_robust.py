from itertools import product
from math import isnan

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.robust import (
    fewest_pairs,
    shift_interval,
    signed_rank_distribution,
)
from tests.analysis.agreement import agree


def test_signed_rank_distribution_by_enumeration() -> None:
    counts = np.zeros(16)
    for signs in product([0, 1], repeat=5):
        counts[np.dot(signs, [1, 2, 3, 4, 5])] += 1
    assert agree(signed_rank_distribution(5), counts / 32)


def test_the_shift_of_one_arm_is_the_signed_rank_tests() -> None:
    values = np.array([0.3, 0.5, -0.1, 0.9, 0.7, 1.1])
    found = shift_interval(values, 0.95)
    assert agree(found.p, stats.wilcoxon(values, method="exact").pvalue)
    # Rejected at 5 % with 6 seeds: sums of ranks 0 alone, so the ends are the smallest and largest mean of a pair.
    assert agree([found.low, found.high], [-0.1, 1.1])


def test_too_few_seeds_have_no_shift_interval() -> None:
    assert isnan(shift_interval([1, 2, 3, 4, 5]).low)  # 2 / 32 > 5 %
    assert isnan(shift_interval([]).difference)


@pytest.mark.parametrize(("level", "pairs"), [(0.90, 5), (0.95, 6), (0.99, 8), (1 - 0.05 / 6, 8), (1 - 0.05 / 7, 9)])
def test_fewest_pairs_are_where_the_interval_begins_to_exist(level: float, pairs: int) -> None:
    assert fewest_pairs(level) == pairs
    values = np.arange(1.0, pairs + 1)
    assert not isnan(shift_interval(values, level).low)
    assert isnan(shift_interval(values[1:], level).low)
