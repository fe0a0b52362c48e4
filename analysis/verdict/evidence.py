"""Scores by seed and a claim -> the interval that decides it, and beside it what says how far to trust that."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.records.claims import Claim
from analysis.statistics.intervals import (
    FEWEST_SEEDS,
    Decision,
    Difference,
    decide,
    level_of,
    paired_t,
    seeds_needed,
    smallest_detectable_difference,
    welch,
)
from analysis.statistics.robust import fewest_pairs, shift_interval

POWER = 0.8
FEWEST_FOR_RANKS = 8  # of a primary claim: below, the exact test can hardly reject anything
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """What the seeds say to a claim.

    n: seeds of the arm and of the baseline (0 where there is none). pairs: seeds that both have; a score of its own,
    held against 0, is a pair too. method: `paired` (t test of the differences by seed) wherever 5 seeds are shared, or
    all of fewer; where a run collapsed `signed-rank` (pseudo-median of the differences, exact interval), which such a
    run cannot move far; else `welch`, which decides nothing where a run collapsed. level: the interval's confidence,
    low and high its ends, not a number where the seeds are too few for one. p: two-sided about the margin, None with
    fewer than 5 seeds.
    smallest_detectable: the true effect (for an equivalence the margin at no true effect) at which such seeds decide
    the claim in 80 % of the studies; seeds_needed: so that they do for an effect of one margin beyond the margin (for
    an equivalence at no effect). Both by the t test's formula from the spread that the deciding test sees.
    welch: Welch's difference, interval and p, which take the arms as independent; None for one arm.
    """

    n: tuple[int, int]
    pairs: int
    method: str
    effect: float
    level: float
    low: float
    high: float
    p: float | None
    welch: Difference | None
    smallest_detectable: float | None
    seeds_needed: int | None
    decision: Decision

    @property
    def seeds(self) -> int:
        """The seeds that limit what may be claimed: those of the pairs, else those of the smaller arm."""
        return self.pairs if self.method in ("paired", "signed-rank") else min(self.n)

    @property
    def has_enough_seeds(self) -> bool:
        """Whether anything may be claimed from so many."""
        return self.seeds >= FEWEST_SEEDS

    @property
    def by_ranks(self) -> bool:
        """Whether ranks stand for means, since a run collapsed."""
        return self.method == "signed-rank"


def evidence(
    claim: Claim, scores: pd.Series, baseline: pd.Series | None, primary: int, robust: bool = False
) -> Evidence:
    """The evidence on a claim from the scores by seed of its arm and baseline; without one they are held against 0.

    primary: the number of primary claims that the study can test; 1 for a claim outside of them.
    robust: whether a run of these arms collapsed.
    """
    level = level_of(claim.kind, primary)
    shared = scores.index if baseline is None else scores.index.intersection(baseline.index)
    is_paired = baseline is None or 0 < min(FEWEST_SEEDS, len(scores), len(baseline)) <= len(shared)
    a, b = scores.to_numpy(float), np.zeros(len(scores)) if baseline is None else baseline.to_numpy(float)
    first, second = a, b
    spread: tuple[Array, Array | None] = a, b
    test: Callable[[Array, Array, float], Difference] = welch
    if is_paired:
        first, second = scores[shared].to_numpy(float), b if baseline is None else baseline[shared].to_numpy(float)
        test, spread = signed_ranks if robust else paired_t, (first - second, None)
    found = test(first, second, level)
    # For an equivalence both one-sided tests must pass, so each may fail in half of what is allowed.
    margin, power = (0.0, (1 + POWER) / 2) if claim.kind == "equivalent" else (claim.margin, POWER)
    distance = smallest_detectable_difference(*spread, 1 - level, power)
    shown = Evidence(
        n=(len(a), 0 if baseline is None else len(b)),
        pairs=len(shared),
        method=("signed-rank" if robust else "paired") if is_paired else "welch",
        effect=found.difference,
        level=level,
        low=found.low,
        high=found.high,
        p=None,
        welch=None if baseline is None else _welch(claim, a, b, level),
        smallest_detectable=None if distance is None else margin + distance,
        seeds_needed=seeds_needed(*spread, claim.margin, 1 - level, power),
        decision="undecided",
    )
    if not shown.has_enough_seeds:
        return shown
    p = claim_p(claim, lambda shift: test(first - shift, second, 0.95))
    word = decide(claim.kind, claim.direction, claim.margin, found.low, found.high)
    may_decide = not isnan(found.low) and not lacks_ranks(claim, shown) and (is_paired or not robust)
    return replace(shown, p=p, decision=word if may_decide else "undecided")


def fewest_for_ranks(claim: Claim, level: float) -> int:
    """Seeds that ranks need to decide the claim: enough for the exact test, and at least 8 for a primary claim."""
    return max(FEWEST_FOR_RANKS if claim.role == "primary" else FEWEST_SEEDS, fewest_pairs(level))


def lacks_ranks(claim: Claim, found: Evidence) -> bool:
    """Whether ranks would decide and the seeds are too few for them."""
    return found.by_ranks and found.pairs < fewest_for_ranks(claim, found.level)


def claim_p(claim: Claim, shifted: Callable[[float], Difference]) -> float:
    """Two-sided p of the claim's margin; for an equivalence the larger of the two one-sided tests (TOST).

    shifted: any test of `scores - shift` against the baseline.
    """
    if claim.kind == "superior":
        return shifted(claim.margin if claim.direction == "higher" else -claim.margin).p
    lower, upper = shifted(-claim.margin), shifted(claim.margin)
    one_sided = [(lower.p / 2, lower.difference > 0), (upper.p / 2, upper.difference < 0)]
    return max(p if on_this_side else 1 - p for p, on_this_side in one_sided)


def signed_ranks(a: Array, b: Array, level: float) -> Difference:
    """`shift_interval` of the differences seed by seed."""
    return shift_interval(a - b, level)


def _welch(claim: Claim, a: Array, b: Array, level: float) -> Difference:
    """Welch's interval at the level, and p about the margin."""
    p = claim_p(claim, lambda shift: welch(a - shift, b)) if min(len(a), len(b)) >= FEWEST_SEEDS else np.nan
    return replace(welch(a, b, level), p=p)
