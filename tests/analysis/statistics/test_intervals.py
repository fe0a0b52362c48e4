from math import isnan, sqrt
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import intervals as statistics
from tests.analysis.agreement import agree

A = [0.70, 0.72, 0.69, 0.74, 0.71]
B = [0.68, 0.66, 0.70, 0.67, 0.69]


def test_t_interval_by_hand() -> None:
    # mean 2, sd 1, t_{.975, 2} = 4.30265273: 2 +- 4.30265273 / sqrt(3)
    interval = statistics.t_interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / sqrt(3)
    assert agree([interval.mean, interval.low, interval.high], [2, 2 - half, 2 + half])
    assert interval.n == 3


def test_one_seed_has_no_interval() -> None:
    interval = statistics.t_interval([0.5])
    assert interval.mean == 0.5
    assert isnan(interval.low)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (statistics.welch(A, B), stats.ttest_ind(A, B, equal_var=False)),
        (statistics.paired_t(A, B), stats.ttest_rel(A, B)),
    ],
)
def test_tests_are_scipys(ours: statistics.Difference, theirs: Any) -> None:
    low, high = theirs.confidence_interval()
    assert agree([ours.difference, ours.p, ours.low, ours.high], [np.mean(A) - np.mean(B), theirs.pvalue, low, high])


@pytest.mark.parametrize("test", [statistics.welch, statistics.paired_t])
def test_scores_without_spread_are_equal_or_not(test) -> None:  # type: ignore[no-untyped-def]
    assert test([0.5] * 5, [0.5] * 5).p == 1.0
    assert test([0.6] * 5, [0.5] * 5).p == 0.0


def test_corrections_by_hand() -> None:
    # sorted .01 .02 .04: Holm 3 x .01, 2 x .02, then .04 is raised to the one before; BH 3/1 x .01, 3/2 x .02, .04
    assert agree(statistics.holm([0.04, 0.01, 0.02]), [0.04, 0.03, 0.04])
    assert agree(statistics.benjamini_hochberg([0.04, 0.01, 0.02]), [0.04, 0.03, 0.03])
    assert statistics.holm([]) == statistics.benjamini_hochberg([]) == []


@pytest.mark.parametrize(("n", "in_sds"), [(3, 3.07), (5, 2.02), (10, 1.32)])
def test_smallest_detectable_difference_in_seed_sds(n: int, in_sds: float) -> None:
    """The values that a simulation found for Welch's test; the formula is within 1.2 % of each."""
    scores = stats.norm.ppf((np.arange(n) + 0.5) / n)
    scores = (scores - scores.mean()) / scores.std(ddof=1)
    found = statistics.smallest_detectable_difference(scores, scores + 5)
    assert found is not None
    assert abs(found / in_sds - 1) < 0.012


def test_seeds_needed_is_where_the_effect_asked_for_becomes_detectable() -> None:
    scores = np.array([-1.0, 0.0, 1.0])
    n = statistics.seeds_needed(scores + 7.0, scores, 1.0)

    def detectable(n: int) -> float:
        df = 2 * (n - 1)
        return float((stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * sqrt(2 / n))

    assert n == 17  # the textbook's answer for a difference of one standard deviation
    assert detectable(17) <= 1.0 < detectable(16)


def test_no_number_of_seeds_detects_nothing() -> None:
    assert statistics.seeds_needed([1.0, 2.0], [1.0, 2.0], 0.0) is None
    assert statistics.seeds_needed([1.0, 2.0], [1.0, 2.0], 1e-9) is None
    assert statistics.seeds_needed([1.0], [2.0], 1.0) is None


def test_power_of_one_sample_is_that_of_its_t_test() -> None:
    scores = np.array([-1.0, 0.0, 1.0, 0.5, -0.5])
    error = float(scores.std(ddof=1)) / sqrt(5)
    quantiles = stats.t.ppf(0.975, 4) + stats.t.ppf(0.8, 4)
    assert agree(statistics.smallest_detectable_difference(scores, None), quantiles * error)
    # A textbook's answer: one standard deviation is found by 10 seeds (G*Power: 10 for d = 1, two-sided, 80 %).
    assert statistics.seeds_needed(scores / scores.std(ddof=1), None, 1.0) == 10


@pytest.mark.parametrize(
    ("kind", "direction", "low", "high", "word"),
    [
        ("superior", "higher", 0.02, 0.05, "supported"),
        ("superior", "higher", 0.00, 0.05, "undecided"),
        ("superior", "higher", -0.05, 0.005, "contradicted"),  # an advantage below the margin is none
        ("superior", "higher", 0.01, 0.05, "undecided"),  # touching the margin is not beyond it
        ("superior", "lower", -0.05, -0.02, "supported"),
        ("superior", "lower", -0.005, 0.05, "contradicted"),
        ("equivalent", "higher", -0.009, 0.009, "supported"),
        ("equivalent", "higher", -0.009, 0.02, "undecided"),
        ("equivalent", "higher", 0.02, 0.05, "contradicted"),
        ("equivalent", "higher", -0.05, -0.02, "contradicted"),
        ("superior", "higher", float("nan"), float("nan"), "undecided"),
        ("equivalent", "higher", float("nan"), float("nan"), "undecided"),
    ],
)
def test_the_interval_decides(kind: str, direction: str, low: float, high: float, word: str) -> None:
    assert statistics.decide(kind, direction, 0.01, low, high) == word


def test_the_level_is_bonferronis_and_for_equivalence_that_of_two_one_sided_tests() -> None:
    assert agree(
        [statistics.level_of("superior", 4), statistics.level_of("equivalent", 4)], [1 - 0.05 / 4, 1 - 0.10 / 4]
    )
