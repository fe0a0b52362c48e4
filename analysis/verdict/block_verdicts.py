"""The claims of a study of several blocks, each decided by differences seed by seed.

A seed's runs share warm start, prompts and noise in every arm, so the difference of two arms is taken within each seed,
and the t or rank interval is over these differences. It holds for the warm starts that were used: the spread between
them is in it, but not as that of a sample of warm starts; for this, each warm start's mean is one unit, beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan, log2

import numpy as np
import pandas as pd

from analysis.formatting import bracket, signed
from analysis.records.blocks import BlockStudy
from analysis.records.claims import Claim
from analysis.statistics.best_of import doublings, slopes
from analysis.statistics.decisions import LEVEL
from analysis.statistics.intervals import Difference, benjamini_hochberg, holm, paired_t, smallest_detectable_difference
from analysis.verdict.evidence import POWER, Evidence, evidence
from analysis.verdict.mechanism import WITHOUT_PLACES
from analysis.verdict.robustness import best_levels, own_best, ranges

DIGITS = {"rate_range": 2, "final_response_tokens": 1}
UNITS = {
    "auc": "AUC",
    "final_accuracy": "final accuracy",
    "own_best_accuracy": "final accuracy at its own best rate",
    "rate_range": "doublings of the rate",
    "final_response_tokens": "tokens per answer",
}


@dataclass(frozen=True)
class BlockVerdict:
    """A claim, the evidence of its differences by seed, and the same with the warm start as the unit.

    key: how the abstract refers to it. differences: by seed. collapsed: scored runs that diverged or ended no better
    than they began; with any of them the evidence rests on medians and ranks.
    """

    key: str
    claim: Claim
    evidence: Evidence
    over_starts: Difference
    differences: pd.Series
    p_corrected: float | None
    collapsed: tuple[str, ...]
    reason: str = ""

    @property
    def is_primary(self) -> bool:
        """Whether it may be quoted."""
        return self.claim.role == "primary"

    @property
    def digits(self) -> int:
        """Of its metric."""
        return DIGITS.get(self.claim.metric, 3)

    @property
    def effect(self) -> str:
        """`+0.012 [-0.003, +0.027]`, the interval that decides."""
        found = self.evidence
        if isnan(found.low):
            return f"{signed(found.effect, self.digits)} [no interval at this level]"
        return f"{signed(found.effect, self.digits)} {bracket(found.low, found.high, self.digits)}"

    @property
    def word(self) -> str:
        """What the evidence says, and why no more."""
        if not self.evidence.has_enough_seeds:
            return "undecided, insufficient seeds"
        if self.reason:
            return f"undecided, {self.reason}"
        if self.collapsed and isnan(self.evidence.low):
            return "undecided, too few seeds for ranks"
        how = ", by medians, since runs collapsed" if self.collapsed else ""
        return f"{self.evidence.decision}{how}{self._corrected}"

    @property
    def _corrected(self) -> str:
        """Whether an exploratory finding does not outlast the correction for the number of questions."""
        found = not self.is_primary and self.evidence.decision != "undecided"
        lost = found and self.p_corrected is not None and self.p_corrected >= LEVEL
        return ", but not after correction for the number of questions" if lost else ""

    @property
    def detectable(self) -> float | None:
        """The effect that such differences find in 80 % of the studies, by the t test's formula, also under ranks.

        Of a claim of equivalence: the margin that they could show where there is no effect. None where the seeds are
        too few for any interval.
        """
        if isnan(self.evidence.low):
            return None
        power = (1 + POWER) / 2 if self.claim.kind == "equivalent" else POWER
        return smallest_detectable_difference(self.differences.to_numpy(float), None, 1 - self.evidence.level, power)


@dataclass(frozen=True)
class Scored:
    """Differences by seed, and the runs that they are made from."""

    differences: pd.Series
    runs: tuple[str, ...]


def block_verdicts(found: BlockStudy, sees_credit: bool | None = True) -> list[BlockVerdict]:
    """Every claim of the study, the primary ones first: P1, P2, ..., then E1, E2, ...

    sees_credit: whether the positive control was told from its baseline; else claims about token credit are undecided.
    """
    claims = found.study.claims.claims if found.study.claims else ()
    primary = [claim for claim in claims if claim.role == "primary"]
    exploratory = [claim for claim in claims if claim.role != "primary"]
    rows = [*_corrected(found, primary, "P", max(1, len(primary))), *_corrected(found, exploratory, "E", 1)]
    return rows if sees_credit else [_without_credit(row) for row in rows]


def is_about_credit(claim: Claim) -> bool:
    """Whether the claim holds weights or blame against the same without their places: a placebo's or a control's."""
    return claim.baseline is not None and claim.baseline.rpartition("/")[2].startswith(WITHOUT_PLACES)


def _without_credit(row: BlockVerdict) -> BlockVerdict:
    if not is_about_credit(row.claim):
        return row
    return replace(
        row, evidence=replace(row.evidence, decision="undecided"), reason="the positive control was not told"
    )


def scored(found: BlockStudy, claim: Claim) -> Scored:
    """The claim's differences, arm minus baseline, or along a trend the change from its start to its end, by seed."""
    arm = _scores(found, claim.arm, claim)
    if claim.baseline is None:
        return arm
    baseline = _scores(found, claim.baseline, claim)
    differences = (arm.differences - baseline.differences).dropna()
    return Scored(differences, (*arm.runs, *baseline.runs))


def over_warm_starts(differences: pd.Series, starts: int, level: float) -> Difference:
    """The mean with a t interval in which each warm start is one unit: seed s starts from s mod starts."""
    means = differences.groupby(differences.index.to_numpy() % starts).mean().to_numpy(float)
    return paired_t(means, np.zeros_like(means), level)


def _corrected(found: BlockStudy, claims: Sequence[Claim], letter: str, m: int) -> list[BlockVerdict]:
    rows = [_decided(found, claim, f"{letter}{place}", m) for place, claim in enumerate(claims, 1)]
    raw = [1.0 if row.evidence.p is None else row.evidence.p for row in rows]
    corrected = (holm if letter == "P" else benjamini_hochberg)(raw)
    return [
        replace(row, p_corrected=None if row.evidence.p is None else p) for row, p in zip(rows, corrected, strict=True)
    ]


def _decided(found: BlockStudy, claim: Claim, key: str, m: int) -> BlockVerdict:
    """m: the number of claims among which the level is shared."""
    of = scored(found, claim)
    fell = set(found.scores.loc[found.scores["collapsed"], "run"])
    runs = () if claim.metric == "rate_range" else tuple(dict.fromkeys(run for run in of.runs if run in fell))
    alone = Claim(**{**vars(claim), "baseline": None})  # the differences are scores of their own, held against 0
    shown = evidence(alone, of.differences, None, m, robust=bool(runs))
    beside = over_warm_starts(of.differences, found.warm_starts, shown.level)
    return BlockVerdict(key, claim, shown, beside, of.differences, None, runs)


def _scores(found: BlockStudy, name: str, claim: Claim) -> Scored:
    """The scores of `block/arm` by seed, under the claim's metric."""
    block, _, arm = name.partition("/")
    rows = found.of(block, arm)
    if claim.is_trend:
        table = found.by_level(block, arm, claim.metric)
        return Scored(_changes(table, claim), tuple(rows.loc[rows["seed"].isin(table.index), "run"]))
    if claim.metric in ("own_best_accuracy", "rate_range"):
        table = found.by_level(block, arm, "final_accuracy")
        if claim.metric == "rate_range":
            return Scored(ranges(table), tuple(rows["run"]))
        at = rows["seed"].map(best_levels(table))
        return Scored(own_best(table), tuple(rows.loc[rows["level"] == at, "run"]))
    return Scored(rows.set_index("seed")[claim.metric].dropna().sort_index(), tuple(rows["run"]))


def _changes(table: pd.DataFrame, claim: Claim) -> pd.Series:
    """By seed, the change from the claim's start to its end along the seed's own line over log2 of the level."""
    if table.empty or table.shape[1] < 2:
        return pd.Series(dtype=float)
    per_doubling = slopes(doublings([float(x) for x in table.columns]), table.to_numpy(float))
    return pd.Series(per_doubling * log2(float(claim.end or 1.0) / float(claim.start or 1.0)), index=table.index)
