from itertools import product
from math import isnan

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.robust import (
    fewest_pairs,
    probability_of_improvement,
    share_above,
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


def test_a_share_of_runs_has_the_exact_interval() -> None:
    # All of 5: the smallest share q with q^5 >= .025; none of 5: the same from above.
    assert agree(share_above([1, 2, 3, 4, 5], 0).low, 0.025**0.2)
    assert agree(share_above([1, 2, 3, 4, 5], 5).high, 1 - 0.025**0.2)
    assert share_above([1, 2, 3, 4, 5], 3).mean == 0.4  # a score at the threshold is not above it


def test_the_probability_of_improvement_counts_pairs_and_has_newcombes_interval() -> None:
    # Pairs (1, 2), (1, 3), (3, 2), (3, 3): one better, one tied of four.
    assert probability_of_improvement([1, 3], [2, 3]).mean == 0.375
    # m = n = 1: c = 0, V = t(1 - t), as in Wilson's interval: (1 - t)^2 = z^2 t(1 - t), t = 1/(1 + z^2).
    one = probability_of_improvement([2.0], [1.0])
    z = 1.959963984540054
    assert agree([one.mean, one.low, one.high], [1.0, 1 / (1 + z**2), 1.0])
    # m = n = 2, p = 0: c = 1; t = 0.6 gives V = .24 (1 + .4/1.4 + .6/1.6)/4 = .0996429 and t/sqrt(V) = 1.9008 < z.
    none = probability_of_improvement([1, 1], [2, 2])
    assert none.low == 0
    assert 0.6 < none.high < 0.62
    same = probability_of_improvement([1, 2, 3], [1, 2, 3])
    assert agree(same.low + same.high, 1.0)
