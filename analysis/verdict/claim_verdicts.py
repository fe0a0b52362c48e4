"""A study's claims, each with its evidence and the word that follows from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from analysis.records.claims import Claim
from analysis.records.records import Study
from analysis.statistics.intervals import benjamini_hochberg, holm
from analysis.verdict.controls import collapsed
from analysis.verdict.evidence import Evidence, evidence

PRIMARY_METRIC = "auc"
UNFIXED = "no claims were fixed before the runs"


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim and what the seeds say to it.

    p_corrected: Holm's over the primary claims, Benjamini and Hochberg's over the exploratory ones.
    diverged: runs of its arms that diverged or ended no better than they began; with any of them `evidence` rests on
    medians and ranks. without_diverged: the t evidence of the other runs, None where there are none to leave out.
    """

    claim: Claim
    evidence: Evidence
    p_corrected: float | None
    diverged: tuple[str, ...]
    without_diverged: Evidence | None

    @property
    def is_primary(self) -> bool:
        """Whether the claim may be quoted; the others say where to look next."""
        return self.claim.role == "primary"

    @property
    def reason(self) -> str:
        """Why the word is no more than `undecided`, or how it was found; empty where there is nothing to add."""
        if not self.evidence.has_enough_seeds:
            return "insufficient seeds"
        return "by medians, since runs diverged" if self.diverged else ""


def claim_verdicts(study: Study, table: pd.DataFrame) -> list[ClaimVerdict]:
    """Every claim that the study's arms can test, the primary ones first, from its table of outcomes."""
    asked = asked_of(study)
    primary = [claim for claim in asked if claim.role == "primary"]
    exploratory = [claim for claim in asked if claim.role != "primary"]
    with_runs = {arm.name for arm in study.arms_with_runs}
    # A claim whose arms have no run yet was asked all the same: it keeps its place among the m.
    groups = [(primary, max(1, len(primary)), holm), (exploratory, 1, benjamini_hochberg)]
    return [
        verdict
        for claims, m, correct in groups
        for verdict in _corrected(study, table, [one for one in claims if set(one.arms) <= with_runs], (m, correct))
    ]


def asked_of(study: Study) -> list[Claim]:
    """The claims that its planned arms can test; every pair of its arms, as exploratory, where no claims were fixed."""
    planned = [arm.name for arm in study.arms if arm.control is None]
    fixed = study.claims.about_arms(planned) if study.claims else []
    return fixed or [_pair(arm, baseline) for baseline, arm in combinations(planned, 2)]


def not_tested(study: Study) -> list[tuple[Claim, str]]:
    """The claims of the study's file that this report cannot test, each with what is missing."""
    if study.claims is None:
        return []
    with_runs = {arm.name for arm in study.arms_with_runs}
    missing = []
    for claim in study.claims.claims:
        absent = [arm for arm in claim.arms if arm not in with_runs]
        if claim.is_trend:
            missing.append((claim, f"needs a designed grid over {claim.parameter}"))
        elif absent:
            missing.append((claim, f"needs runs of {' and '.join(absent)}"))
    return missing


def scores_of(table: pd.DataFrame, arm: str, metric: str) -> pd.Series:
    """An arm's scores by seed, without the runs that have none."""
    return table[table["arm"] == arm].set_index("seed")[metric].dropna().sort_index()


def _corrected(
    study: Study,
    table: pd.DataFrame,
    claims: Sequence[Claim],
    correction: tuple[int, Callable[[Sequence[float]], list[float]]],
) -> list[ClaimVerdict]:
    m, correct = correction
    found = [_evidence(study, table, claim, m) for claim in claims]
    # A claim without a p is a question asked too: it keeps its place in the correction.
    raw = [1.0 if item.p is None else item.p for item, _, _ in found] + [1.0] * (m - len(found))
    corrected = correct(raw)[: len(found)]
    return [
        ClaimVerdict(claim, item, None if item.p is None else p, runs, without)
        for claim, (item, runs, without), p in zip(claims, found, corrected, strict=True)
    ]


def _evidence(
    study: Study, table: pd.DataFrame, claim: Claim, m: int
) -> tuple[Evidence, tuple[str, ...], Evidence | None]:
    own = table[table["arm"].isin(claim.arms)]
    runs = tuple(run for run in collapsed(study, own))
    found = _from(own, claim, m, robust=bool(runs))
    if not runs:
        return found, (), None
    rest = own[~own["run"].isin(runs)]
    alone = all((rest["arm"] == arm).any() for arm in claim.arms)
    return found, runs, _from(rest, claim, m, robust=False) if alone else None


def _from(table: pd.DataFrame, claim: Claim, m: int, robust: bool) -> Evidence:
    baseline = None if claim.baseline is None else scores_of(table, claim.baseline, claim.metric)
    return evidence(claim, scores_of(table, claim.arm, claim.metric), baseline, m, robust)


def _pair(arm: str, baseline: str) -> Claim:
    return Claim(
        id=f"{arm}_above_{baseline}",
        text=f"{arm} is more accurate than {baseline}",
        source=UNFIXED,
        role="exploratory",
        kind="superior",
        arm=arm,
        baseline=baseline,
        metric=PRIMARY_METRIC,
        margin=0.0,
    )
