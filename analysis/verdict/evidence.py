"""Scores by seed and a claim -> the interval that decides it, and beside it all that says how far to trust that."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.records.claims import Claim
from analysis.statistics.decisions import FEWEST_SEEDS, Decision, decide, level_of
from analysis.statistics.intervals import (
    Difference,
    exact_permutation_p,
    paired_t,
    seeds_needed,
    smallest_detectable_difference,
    welch,
)
from analysis.statistics.robust import shift_interval, shift_interval_of_one

POWER = 0.8
Array = NDArray[np.float64]
Test = Callable[[Array, Array, float], Difference]


@dataclass(frozen=True)
class Evidence:
    """What the seeds say to a claim.

    n: seeds of the arm and of the baseline (0 where there is none). level: the interval's confidence, low and high its
    ends. method: `t` (Welch's, or one arm's own), or `shift` (median of the pairwise differences with its exact rank
    interval), which a diverged run cannot move far. Every p is about the margin, and None with fewer than 5 seeds in an
    arm: no significance is claimed from so few. p_paired is over the `pairs` seeds that both arms have.
    smallest_detectable: the true effect (for an equivalence the margin at no true effect) at which such seeds decide
    the claim in 80 % of the studies; seeds_needed: per arm, so that they do for an effect of one margin beyond the
    margin (for an equivalence at no effect). Both None where the method is not t.
    """

    n: tuple[int, int]
    method: str
    effect: float
    level: float
    low: float
    high: float
    p: float | None
    p_paired: float | None
    pairs: int
    p_permutation: float | None
    smallest_detectable: float | None
    seeds_needed: int | None
    decision: Decision

    @property
    def has_enough_seeds(self) -> bool:
        """Whether anything may be claimed from so many."""
        return enough(self.n)


def evidence(claim: Claim, scores: pd.Series, baseline: pd.Series | None, primary: int, robust: bool) -> Evidence:
    """The evidence on a claim from the scores by seed of its arm and baseline.

    primary: the number of primary claims that the study can test; 1 for a claim outside of them.
    robust: whether a run of these arms diverged.
    """
    level = level_of(claim.kind, primary)
    a, b = scores.to_numpy(float), None if baseline is None else baseline.to_numpy(float)
    n = (len(a), 0 if b is None else len(b))
    test = _test(b is None, robust)
    found = test(a, _or_zero(b), level)
    shared = scores.index.intersection(scores.index if baseline is None else baseline.index)
    enough_seeds = enough(n)
    may_decide = enough_seeds and not np.isnan(found.low)
    return Evidence(
        n=n,
        method="shift" if robust else "t",
        effect=found.difference,
        level=level,
        low=found.low,
        high=found.high,
        p=_p(claim, a, b, test) if enough_seeds else None,
        p_paired=_paired_p(claim, scores, baseline, shared) if enough_seeds else None,
        pairs=0 if baseline is None else len(shared),
        p_permutation=_permutation_p(claim, a, b) if enough_seeds and b is not None else None,
        smallest_detectable=None if robust else _smallest_detectable(claim, a, b, level),
        seeds_needed=None if robust else _seeds_needed(claim, a, b, level),
        decision=decide(claim.kind, claim.direction, claim.margin, found.low, found.high)
        if may_decide
        else "undecided",
    )


def enough(n: tuple[int, int]) -> bool:
    """Whether significance may be claimed from so many seeds of arm and baseline (0: there is no baseline)."""
    return n[0] >= FEWEST_SEEDS and (n[1] == 0 or n[1] >= FEWEST_SEEDS)


def _test(one_arm: bool, robust: bool) -> Test:
    if one_arm:
        return (lambda a, _, level: shift_interval_of_one(a, level)) if robust else paired_t
    return shift_interval if robust else welch


def _or_zero(baseline: Array | None) -> Array:
    """What an arm without a baseline is held against; a paired t test against it is the t test of one sample."""
    return np.zeros(1) if baseline is None else baseline


def _p(claim: Claim, a: Array, b: Array | None, test: Test) -> float:
    """Two-sided p of the claim's margin; for an equivalence the larger of the two one-sided tests (TOST)."""
    return claim_p(claim, lambda shift: test(a - shift, _or_zero(b), 0.95))


def claim_p(claim: Claim, shifted: Callable[[float], Difference]) -> float:
    """The same from any test of `scores - shift` against the baseline."""
    if claim.kind == "superior":
        return shifted(claim.margin if claim.direction == "higher" else -claim.margin).p
    lower, upper = shifted(-claim.margin), shifted(claim.margin)
    return max(_one_sided(lower.p, lower.difference > 0), _one_sided(upper.p, upper.difference < 0))


def _one_sided(p: float, on_this_side: bool) -> float:
    return p / 2 if on_this_side else 1 - p / 2


def _paired_p(claim: Claim, scores: pd.Series, baseline: pd.Series | None, shared: pd.Index) -> float | None:
    if baseline is None or len(shared) < FEWEST_SEEDS:
        return None
    a, b = scores[shared].to_numpy(float), baseline[shared].to_numpy(float)
    return claim_p(claim, lambda shift: paired_t(a - shift, b))


def _permutation_p(claim: Claim, a: Array, b: Array) -> float | None:
    if exact_permutation_p(a, b) is None:
        return None

    def shifted(shift: float) -> Difference:
        p = exact_permutation_p(a - shift, b)
        difference = float((a - shift).mean() - b.mean())
        return Difference(difference, np.nan, np.nan, 1.0 if p is None else p)

    return claim_p(claim, shifted)


def _power(claim: Claim) -> float:
    """For an equivalence both one-sided tests must pass, so each may fail in half of what is allowed."""
    return (1 + POWER) / 2 if claim.kind == "equivalent" else POWER


def _smallest_detectable(claim: Claim, a: Array, b: Array | None, level: float) -> float | None:
    distance = smallest_detectable_difference(a, b, 1 - level, _power(claim))
    if distance is None or claim.kind == "equivalent":
        return distance
    return claim.margin + distance


def _seeds_needed(claim: Claim, a: Array, b: Array | None, level: float) -> int | None:
    return seeds_needed(a, b, claim.margin, 1 - level, _power(claim))
