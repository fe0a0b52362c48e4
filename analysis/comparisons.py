"""Pairs of arms -> differences with everything that says how far to trust them, and one word each."""

from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from analysis.records import Study
from analysis.statistics import (
    Difference,
    exact_permutation_p,
    holm,
    paired_t,
    seeds_needed,
    smallest_detectable_difference,
    welch,
)

LEVEL = 0.05
FEWEST_SEEDS = 5


@dataclass(frozen=True)
class Comparison:
    """`arm` minus `baseline` in one outcome. The claim under test is that `arm` is the better one.

    Every p is None with fewer than 5 seeds in an arm: no significance is claimed from so few.
    alpha: the level that power is computed for: 5 % over the number of pairs, Holm's strictest step.
    """

    outcome: str
    arm: str
    baseline: str
    n: tuple[int, int]
    difference: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    p_paired: float | None
    p_permutation: float | None
    pairs: int
    alpha: float
    smallest_detectable: float | None
    seeds_needed: int | None
    word: str


def compare_arms(study: Study, table: pd.DataFrame, outcome: str) -> list[Comparison]:
    """All pairs of the arms that are no planted control, the later of the study minus the earlier, Holm over all."""
    names = [arm.name for arm in study.compared_arms]
    pairs = [(later, earlier) for earlier, later in combinations(names, 2)]
    tests = [(_scores(table, arm, outcome), _scores(table, baseline, outcome)) for arm, baseline in pairs]
    # A pair without enough seeds still counts as a question asked, so it keeps its place in the correction.
    raw = [_p_or_none(scores, baseline) for scores, baseline in tests]
    corrected = holm([1.0 if p is None else p for p in raw])
    return [
        compare(
            scores.rename(arm), baseline.rename(base), outcome, (p, None if p is None else p_holm, LEVEL / len(pairs))
        )
        for (arm, base), (scores, baseline), p, p_holm in zip(pairs, tests, raw, corrected, strict=True)
    ]


def compare_pair(table: pd.DataFrame, arm: str, baseline: str, outcome: str, level: float = LEVEL) -> Comparison:
    """One pair on its own, a question of its own: nothing to correct for."""
    scores, base = _scores(table, arm, outcome), _scores(table, baseline, outcome)
    p = _p_or_none(scores, base)
    return compare(scores.rename(arm), base.rename(baseline), outcome, (p, p, level))


def compare(
    scores: pd.Series, baseline: pd.Series, outcome: str, correction: tuple[float | None, float | None, float]
) -> Comparison:
    """The comparison of two series of scores by seed, named after their arms; `correction`: p, corrected p, alpha."""
    p, p_holm, alpha = correction
    difference = welch(scores.to_numpy(), baseline.to_numpy())
    seeds = scores.index.intersection(baseline.index)
    power = (scores.to_numpy(), baseline.to_numpy(), alpha)
    return Comparison(
        outcome=outcome,
        arm=str(scores.name),
        baseline=str(baseline.name),
        n=(len(scores), len(baseline)),
        difference=difference.difference,
        low=difference.low,
        high=difference.high,
        p=p,
        p_holm=p_holm,
        p_paired=None if p is None else _paired_p(scores[seeds], baseline[seeds]),
        p_permutation=None if p is None else exact_permutation_p(scores.to_numpy(), baseline.to_numpy()),
        pairs=len(seeds),
        alpha=alpha,
        smallest_detectable=smallest_detectable_difference(*power),
        seeds_needed=seeds_needed(*power),
        word=word(difference, p_holm),
    )


def word(difference: Difference, p_corrected: float | None, level: float = LEVEL) -> str:
    """Supported, contradicted or undecided: what the evidence says to the claim that the difference is positive."""
    if p_corrected is None:
        return "insufficient seeds"
    if p_corrected >= level:
        return "undecided"
    return "supported" if difference.difference > 0 else "contradicted"


def comparison_table(comparisons: list[Comparison]) -> pd.DataFrame:
    """A row per comparison, for the CSV files and the figures."""
    rows = [vars(item) | {"n_arm": item.n[0], "n_baseline": item.n[1]} for item in comparisons]
    return pd.DataFrame(rows).drop(columns="n", errors="ignore")


def _scores(table: pd.DataFrame, arm: str, outcome: str) -> pd.Series:
    return table[table["arm"] == arm].set_index("seed")[outcome].sort_index()


def _p_or_none(scores: pd.Series, baseline: pd.Series) -> float | None:
    if min(len(scores), len(baseline)) < FEWEST_SEEDS:
        return None
    return welch(scores.to_numpy(), baseline.to_numpy()).p


def _paired_p(scores: pd.Series, baseline: pd.Series) -> float | None:
    return paired_t(scores.to_numpy(), baseline.to_numpy()).p if len(scores) >= FEWEST_SEEDS else None
