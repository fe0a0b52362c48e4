from dataclasses import replace
from itertools import combinations, product
from math import isnan

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.records.claims import Claim
from analysis.statistics.decisions import decide, level_of
from analysis.statistics.intervals import welch
from analysis.statistics.robust import (
    rank_sum_distribution,
    shift_interval,
    shift_interval_of_one,
    signed_rank_distribution,
)
from analysis.verdict.evidence import evidence
from tests.analysis.agreement import agree

A = pd.Series([0.70, 0.72, 0.69, 0.74, 0.71])
B = pd.Series([0.68, 0.66, 0.70, 0.67, 0.69])
CLAIM = Claim("id", "text", "source", "primary", "superior", "fipo", "auc", 0.0, "dapo")
SAME = replace(CLAIM, kind="equivalent", margin=0.1)


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
    assert decide(kind, direction, 0.01, low, high) == word


def test_the_level_is_bonferronis_and_for_equivalence_that_of_two_one_sided_tests() -> None:
    assert agree([level_of("superior", 4), level_of("equivalent", 4)], [1 - 0.05 / 4, 1 - 0.10 / 4])


def test_superiority_is_welch_about_the_margin() -> None:
    found = evidence(replace(CLAIM, margin=0.01), A, B, primary=4, robust=False)
    interval, shifted = welch(A, B, 1 - 0.05 / 4), welch(A - 0.01, B)
    assert agree([found.effect, found.low, found.high], [interval.difference, interval.low, interval.high])
    assert agree(found.p, shifted.p)
    assert (found.n, found.pairs, found.method) == ((5, 5), 5, "t")


@pytest.mark.parametrize("margin", [0.0, 0.001, 0.005, 0.01, 0.02, 0.03])
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("claim", [CLAIM, replace(CLAIM, direction="lower"), SAME])
def test_word_and_p_agree(claim: Claim, m: int, margin: float) -> None:
    """Bonferroni's p is below 5 % exactly where the interval has left the margin."""
    claim = replace(claim, margin=margin or 0.0001)
    found = evidence(claim, A, B, m, robust=False)
    assert found.p is not None
    if claim.kind == "equivalent":
        assert (found.decision == "supported") == (found.p < 0.05 / m)
    else:
        assert (found.decision != "undecided") == (found.p < 0.05 / m)


def test_equivalence_is_two_one_sided_tests() -> None:
    found = evidence(replace(SAME, margin=0.05), A, B, primary=1, robust=False)
    lower = stats.ttest_ind(A + 0.05, B, equal_var=False, alternative="greater").pvalue
    upper = stats.ttest_ind(A - 0.05, B, equal_var=False, alternative="less").pvalue
    assert agree(found.p, max(lower, upper))


def test_one_arm_is_tested_against_the_margin_alone() -> None:
    claim = replace(CLAIM, baseline=None, margin=0.65)
    found = evidence(claim, A, None, primary=1, robust=False)
    assert agree(found.p, stats.ttest_1samp(A, 0.65).pvalue)
    assert (found.n, found.pairs, found.p_paired, found.p_permutation) == ((5, 0), 0, None, None)
    assert found.decision == "supported"


def test_the_paired_test_is_over_the_seeds_that_both_have() -> None:
    b = pd.Series([*B, 0.5], index=[4, 3, 2, 1, 0, 9])
    found = evidence(CLAIM, A, b, primary=1, robust=False)
    assert found.pairs == 5
    assert agree(found.p_paired, stats.ttest_rel(A, B[::-1].to_numpy()).pvalue)


def test_below_five_seeds_nothing_is_claimed() -> None:
    found = evidence(CLAIM, A[:4] + 10, B, primary=1, robust=False)
    assert found.decision == "undecided"
    assert found.low > 0
    assert found.p is found.p_paired is found.p_permutation is None
    assert not found.has_enough_seeds


def test_seeds_needed_are_for_the_margin_and_never_for_the_observed_effect() -> None:
    claim = replace(CLAIM, margin=0.01)
    near, far = (evidence(claim, A + shift, B, primary=1, robust=False) for shift in (0.0, 5.0))
    assert near.seeds_needed == far.seeds_needed
    assert near.seeds_needed is not None
    variance = (A.var() + B.var()) / near.seeds_needed
    df = 2 * (near.seeds_needed - 1) * (A.var() + B.var()) ** 2 / (2 * (A.var() ** 2 + B.var() ** 2))
    assert (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * variance**0.5 <= 0.01
    assert evidence(CLAIM, A, B, primary=1, robust=False).seeds_needed is None  # no margin, no number


def test_smallest_detectable_lies_beyond_the_margin() -> None:
    plain, beyond = (evidence(replace(CLAIM, margin=m), A, B, primary=1, robust=False) for m in (0.0, 0.01))
    assert plain.smallest_detectable is not None
    assert agree(beyond.smallest_detectable, plain.smallest_detectable + 0.01)


def test_a_diverged_seed_moves_the_mean_and_hardly_the_median() -> None:
    fallen = pd.concat([A[:4], pd.Series([0.02], index=[4])])
    plain = evidence(CLAIM, fallen, B, primary=1, robust=False)
    robust = evidence(CLAIM, fallen, B, primary=1, robust=True)
    assert plain.effect < -0.09
    assert 0.0 < robust.effect < 0.04
    assert robust.method == "shift"
    assert robust.smallest_detectable is robust.seeds_needed is None


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
