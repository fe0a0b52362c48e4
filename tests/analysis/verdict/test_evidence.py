from dataclasses import replace

import pandas as pd
import pytest
from scipy import stats

from analysis.records.claims import Claim
from analysis.statistics.intervals import paired_t, seeds_needed, welch
from analysis.statistics.robust import shift_interval
from analysis.verdict.by_question import mcnemar
from analysis.verdict.evidence import evidence, fewest_for_ranks
from tests.analysis.agreement import agree

A = pd.Series([0.70, 0.72, 0.69, 0.74, 0.71])
B = pd.Series([0.68, 0.66, 0.70, 0.67, 0.69])
OTHER = B.set_axis(range(10, 15))  # the same scores on seeds that A has not
CLAIM = Claim("id", "text", "source", "primary", "superior", "fipo", "auc", 0.0, "dapo")
SAME = replace(CLAIM, kind="equivalent", margin=0.1)


def test_shared_seeds_are_pairs_and_welch_stands_beside() -> None:
    found = evidence(replace(CLAIM, margin=0.01), A, B, primary=4)
    pairs, beside = paired_t(A, B, 1 - 0.05 / 4), welch(A, B, 1 - 0.05 / 4)
    assert (found.method, found.n, found.pairs) == ("paired", (5, 5), 5)
    assert agree([found.effect, found.low, found.high], [pairs.difference, pairs.low, pairs.high])
    assert agree(found.p, stats.ttest_rel(A - 0.01, B).pvalue)
    assert found.welch is not None
    assert agree([found.welch.low, found.welch.high], [beside.low, beside.high])
    assert agree(found.welch.p, stats.ttest_ind(A - 0.01, B, equal_var=False).pvalue)


def test_seeds_that_are_not_shared_are_welchs() -> None:
    found = evidence(CLAIM, A, OTHER, primary=1)
    assert (found.method, found.pairs) == ("welch", 0)
    assert agree(found.p, stats.ttest_ind(A, B, equal_var=False).pvalue)


def test_pairs_are_the_seeds_that_both_have() -> None:
    b = pd.Series([*B, 0.5], index=[4, 3, 2, 1, 0, 9])
    found = evidence(CLAIM, A, b, primary=1)
    assert (found.n, found.pairs) == ((5, 6), 5)
    assert agree(found.p, stats.ttest_rel(A, B[::-1].to_numpy()).pvalue)


@pytest.mark.parametrize("margin", [0.0, 0.001, 0.005, 0.01, 0.02, 0.03])
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("claim", [CLAIM, replace(CLAIM, direction="lower"), SAME])
@pytest.mark.parametrize("baseline", [B, OTHER], ids=["pairs", "apart"])
def test_word_and_p_agree(claim: Claim, m: int, margin: float, baseline: pd.Series) -> None:
    """Bonferroni's p is below 5 % exactly where the interval has left the margin."""
    claim = replace(claim, margin=margin or 0.0001)
    found = evidence(claim, A, baseline, m)
    assert found.p is not None
    if claim.kind == "equivalent":
        assert (found.decision == "supported") == (found.p < 0.05 / m)
    else:
        assert (found.decision != "undecided") == (found.p < 0.05 / m)


def test_equivalence_is_two_one_sided_tests() -> None:
    found = evidence(replace(SAME, margin=0.05), A, B, primary=1)
    lower = stats.ttest_rel(A + 0.05, B, alternative="greater").pvalue
    upper = stats.ttest_rel(A - 0.05, B, alternative="less").pvalue
    assert agree(found.p, max(lower, upper))


def test_one_arm_is_tested_against_the_margin_alone() -> None:
    claim = replace(CLAIM, metric="length_slope", baseline=None, margin=0.65)
    found = evidence(claim, A, None, primary=1)
    assert agree(found.p, stats.ttest_1samp(A, 0.65).pvalue)
    assert (found.n, found.pairs, found.welch) == ((5, 0), 5, None)
    assert found.decision == "supported"


@pytest.mark.parametrize("baseline", [B, OTHER, None], ids=["pairs", "apart", "one arm"])
def test_below_five_seeds_nothing_is_claimed(baseline: pd.Series | None) -> None:
    found = evidence(CLAIM, A[:4] + 10, baseline, primary=1)
    assert (found.decision, found.p, found.has_enough_seeds) == ("undecided", None, False)
    assert found.low > 0


def test_seeds_needed_follow_from_the_spread_of_the_pairs_and_the_margin() -> None:
    claim = replace(CLAIM, margin=0.01)
    near, far = (evidence(claim, A + shift, B, primary=1) for shift in (0.0, 5.0))
    assert near.seeds_needed == far.seeds_needed == seeds_needed(A - B, None, 0.01)  # never from the effect observed
    b = pd.Series([0.5, 0.6, 0.7, 0.8, 0.9])
    alike = evidence(claim, b + pd.Series([0.01, -0.01, 0.0, 0.01, -0.01]), b, primary=1)
    assert alike.seeds_needed is not None
    assert (seeds_needed(b, b, 0.01) or 0) > 100 * alike.seeds_needed
    assert evidence(CLAIM, A, B, primary=1).seeds_needed is None  # no margin, no number


def test_smallest_detectable_lies_beyond_the_margin() -> None:
    plain, beyond = (evidence(replace(CLAIM, margin=m), A, B, primary=1) for m in (0.0, 0.01))
    assert plain.smallest_detectable is not None
    assert agree(beyond.smallest_detectable, plain.smallest_detectable + 0.01)


def test_a_collapsed_seed_moves_the_mean_and_hardly_the_median() -> None:
    fallen = pd.concat([A[:4], pd.Series([0.02], index=[4])])
    plain, robust = (evidence(CLAIM, fallen, B, primary=1, robust=by_ranks) for by_ranks in (False, True))
    assert plain.effect < -0.09
    assert 0.0 < robust.effect < 0.04
    assert (robust.method, robust.by_ranks) == ("signed-rank", True)
    by_hand = shift_interval(fallen - B)
    assert agree([robust.effect, robust.low, robust.high], [by_hand.difference, by_hand.low, by_hand.high])


def test_a_collapsed_seed_without_pairs_decides_nothing() -> None:
    plain, robust = (evidence(CLAIM, A + 1, OTHER, primary=1, robust=fell) for fell in (False, True))
    assert [plain.decision, robust.decision] == ["supported", "undecided"]


def test_primary_claims_need_eight_seeds_where_ranks_decide() -> None:
    a = pd.Series([0.5 + 0.01 * i for i in range(8)])
    explored = replace(CLAIM, role="exploratory")
    for seeds, claim, word in ((7, CLAIM, "undecided"), (8, CLAIM, "supported"), (7, explored, "supported")):
        assert evidence(claim, a[:seeds] + 0.1, a[:seeds], primary=1, robust=True).decision == word
    assert [fewest_for_ranks(CLAIM, 0.95), fewest_for_ranks(CLAIM, 1 - 0.05 / 7)] == [8, 9]
    assert fewest_for_ranks(explored, 0.95) == 6


def test_mcnemar_is_exact() -> None:
    assert agree(mcnemar(1, 8), 2 * (1 + 9) / 2**9)
    assert mcnemar(0, 0) == 1.0
