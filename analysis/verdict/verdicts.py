"""Claims -> verdicts: one kind for a comparison, a study of blocks and a search's winners.

A seed's runs share warm start, prompts and random numbers in every arm, so two arms are compared seed by seed. The
interval holds for the warm starts that were used; beside it stands the one in which each warm start's mean is a unit.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isnan
from typing import Any

import pandas as pd

from analysis.formatting import bracket, listed, signed
from analysis.records.claims import Claim
from analysis.records.outcomes import OUTCOMES, final_evaluations, scores_of
from analysis.records.study import Study
from analysis.statistics.intervals import (
    FEWEST_SEEDS,
    LEVEL,
    Difference,
    benjamini_hochberg,
    decide,
    holm,
    level_of,
    paired_t,
)
from analysis.statistics.length import length_ceiling
from analysis.verdict.evidence import Evidence, evidence, fewest_for_ranks, lacks_ranks
from analysis.verdict.inert import identical, never_acted
from analysis.verdict.questions import Side, asked_of, lacking, scored, sides_of

BLIND = "undecided: the positive control did not differ from its baseline"
CEILING = "not testable here: at the ceiling of length"


@dataclass(frozen=True)
class Verdict:
    """A claim and what the seeds say to it.

    key: how sentences refer to it, P1, P2, ... of primary claims and E1, ... of exploratory ones. sides: block and arm
    of arm and baseline. differences: by the seeds that both have (of one arm its scores). over_starts: the same with a
    warm start's mean as the unit, None with one warm start. p_corrected: Holm's over the primary claims, Benjamini and
    Hochberg's over the exploratory ones. collapsed: scored runs that diverged or ended no better than they began.
    identical: both arms are one run bit for bit in every seed. inert: where the claim's parameter never acted, in
    words. reason: the word in place of a decision, empty where the evidence decides. units: the study's, in words.
    """

    key: str
    claim: Claim
    evidence: Evidence
    sides: tuple[Side, ...]
    differences: pd.Series
    over_starts: Difference | None
    collapsed: tuple[str, ...] = ()
    identical: bool = False
    inert: str = ""
    reason: str = ""
    p_corrected: float | None = None
    units: tuple[str, str] = ("seed", "warm start")

    @property
    def is_primary(self) -> bool:
        """Whether it may be quoted; exploratory claims say where to look next."""
        return self.claim.role == "primary"

    @property
    def decision(self) -> str:
        """`supported`, `contradicted`, `undecided`, `identical` or `not testable`, without what qualifies it."""
        if self.identical:
            return "identical"
        return self.reason.partition(":")[0].removesuffix(" here") if self.reason else self.evidence.decision

    @property
    def word(self) -> str:
        """What the evidence says, and what qualifies it."""
        if self.identical:
            return "identical: the switch changed no update"
        if self.reason:
            return self.reason
        if not self.evidence.has_enough_seeds:
            return f"undecided: fewer than {FEWEST_SEEDS} {self.units[0]}s"
        if lacks_ranks(self.claim, self.evidence):
            return f"undecided: ranks need at least {fewest_for_ranks(self.claim, self.evidence.level)} seeds"
        if self.collapsed and self.evidence.method == "welch":
            return "undecided: runs collapsed, and the arms share too few seeds"
        return ", ".join(filter(None, (self.evidence.decision, *self._qualified)))

    @property
    def _qualified(self) -> Sequence[str]:
        found, (seed, start) = self.evidence.decision != "undecided", self.units
        lost = found and not self.is_primary and self.p_corrected is not None and self.p_corrected >= LEVEL
        return (
            "by ranks, since runs collapsed" if self.evidence.by_ranks else "",
            self.inert,
            "but not after correction for the number of questions" if lost else "",
            f"with {seed}s as units but not with {start}s as units" if found and not self.holds_over_starts else "",
        )

    @property
    def holds_over_starts(self) -> bool:
        """Whether the interval with warm starts as units decides the same; True where there is none."""
        beside, claim = self.over_starts, self.claim
        if beside is None:
            return True
        return decide(claim.kind, claim.direction, claim.margin, beside.low, beside.high) == self.evidence.decision

    @property
    def unit(self) -> str:
        """Of the effect, in words."""
        levels = {"own_best": " at its own best level", "mean": " in the mean over levels", None: ""}
        return OUTCOMES[self.claim.metric].unit + levels[self.claim.levels]

    @property
    def effect(self) -> str:
        """`+0.012 [-0.003, +0.027]`, the interval that decides."""
        digits, found = OUTCOMES[self.claim.metric].digits, self.evidence
        if self.identical:
            return "no difference in any number"
        ends = "[no interval from so few seeds]" if isnan(found.low) else bracket(found.low, found.high, digits)
        return f"{signed(found.effect, digits)} {ends}"

    def as_json(self) -> dict[str, Any]:
        """The same for a machine: fields of claim and evidence, what was decided, and the difference by seed."""
        return {
            "key": self.key,
            **asdict(self.claim),
            **asdict(self.evidence),
            "decision": self.decision,
            "word": self.word,
            "over_warm_starts": self.over_starts and asdict(self.over_starts),
            "p_corrected": self.p_corrected,
            "differences": {str(seed): float(value) for seed, value in self.differences.items()},
            "collapsed": list(self.collapsed),
        }


def verdicts(study: Study, scores: pd.DataFrame, sees_effects: bool | None = None) -> list[Verdict]:
    """Every claim that the runs can test, the primary ones first.

    sees_effects: whether the positive control is distinguishable from what it is held against; where it is not, claims
    against a placebo are undecided. None where nobody knows.
    """
    # A claim whose arms have no run yet was asked all the same: it keeps its place among the primary ones.
    asked = [claim for claim in asked_of(study) if not isinstance(sides_of(study, claim), str)]
    roles = [("P", "primary"), ("E", "exploratory")]
    found = [row for key, role in roles for row in _of_role(study, scores, [c for c in asked if c.role == role], key)]
    if sees_effects is not False:
        return found
    # These hold an arm against the same without what is claimed to act.
    blind = {row.key for row in found if len(row.sides) > 1 and study.role(row.sides[1][1]).role == "placebo"}
    return [replace(row, reason=row.reason or BLIND) if row.key in blind else row for row in found]


def not_tested(study: Study, scores: pd.DataFrame) -> list[tuple[str, str]]:
    """The text of each claim of the study's file that its runs cannot test, and what is missing."""
    if study.claims is None:
        return []
    missing = [(claim.text, lacking(study, scores, claim)) for claim in study.claims.claims]
    return [(text, why) for text, why in missing if why]


def over_warm_starts(differences: pd.Series, starts: int, level: float) -> Difference | None:
    """The mean with a t interval in which each warm start is one unit: seed s starts from s mod `starts`."""
    if starts < 2 or differences.empty:
        return None
    means = differences.groupby(differences.index.to_numpy() % starts).mean().to_numpy(float)
    return paired_t(means, confidence=level)


def _of_role(study: Study, scores: pd.DataFrame, claims: Sequence[Claim], letter: str) -> list[Verdict]:
    m = max(1, len(claims)) if letter == "P" else 1
    tested = [(place, claim) for place, claim in enumerate(claims, 1) if not lacking(study, scores, claim)]
    rows = [_decided(study, scores, claim, f"{letter}{place}", m) for place, claim in tested]
    raw = [1.0 if row.evidence.p is None else row.evidence.p for row in rows]
    corrected = holm([*raw, *[1.0] * (len(claims) - len(rows))]) if letter == "P" else benjamini_hochberg(raw)
    return [
        replace(row, p_corrected=None if row.evidence.p is None else p) for row, p in zip(rows, corrected, strict=False)
    ]


def _decided(study: Study, scores: pd.DataFrame, claim: Claim, key: str, m: int) -> Verdict:
    """m: the number of claims among which the level is shared."""
    sides = sides_of(study, claim)
    assert not isinstance(sides, str)  # such a claim is not tested
    of = [scored(study, scores, side, claim) for side in sides]
    arm, baseline = of[0][0], of[1][0] if len(of) > 1 else None
    fell = set(scores.loc[scores["collapsed"], "run"])
    collapsed = tuple(dict.fromkeys(run for _, runs in of for run in runs if run in fell))
    shown = evidence(claim, arm, baseline, m, robust=bool(collapsed))
    differences = arm if baseline is None else (arm - baseline).dropna()
    if len(sides) > 1 and _same_runs(study, sides):
        shown = replace(shown, p=None, decision="undecided", smallest_detectable=None, seeds_needed=None)
        return Verdict(key, claim, shown, sides, differences, None, collapsed, identical=True, units=study.units)
    inert, reason = _inert(study, scores, claim, sides)
    if not reason and shown.decision != "supported" and _at_ceiling(study, scores, claim, sides):
        reason = CEILING
    beside = over_warm_starts(differences, study.warm_starts, level_of(claim.kind, m))
    return Verdict(key, claim, shown, sides, differences, beside, collapsed, False, inert, reason, units=study.units)


def _same_runs(study: Study, sides: tuple[Side, ...]) -> bool:
    """Whether the arms are bit for bit the same in every seed, at every level; imported logs cannot show it."""
    if study.is_imported:
        return False
    arm, baseline = ([cell.cell for cell in study.cells if (cell.block, cell.arm) == side] for side in sides)
    same = [one for cells in zip(arm, baseline, strict=False) for one in identical(study, *cells)]
    return bool(same) and all(same) and len(arm) == len(baseline)


def _inert(study: Study, scores: pd.DataFrame, claim: Claim, sides: tuple[Side, ...]) -> tuple[str, str]:
    """Where the claim's parameter never acted, in words; and the word for the claim where it acted nowhere."""
    if claim.parameter is None:
        return "", ""
    block, arm = sides[0]
    values, everywhere = never_acted(scores, study.blocks[block], arm, claim.parameter)
    if not values:
        return "", ""
    if everywhere:
        return f"{claim.parameter} never acted", f"undecided: {claim.parameter} never acted"
    return f"though {claim.parameter} never acted at {listed(values)}", ""


def _at_ceiling(study: Study, scores: pd.DataFrame, claim: Claim, sides: tuple[Side, ...]) -> bool:
    """Whether an arm's answers could be longer by no more than the margin; see `length_ceiling`."""
    if claim.metric != "final_response_tokens" or claim.kind != "superior" or claim.direction != "higher":
        return False
    runs = {run for side in sides for run in scores_of(scores, *side)["run"]}
    answers = final_evaluations(study.answers[study.answers["run"].isin(runs)], study.configs)
    limits = [study.configs[run].get("rollout", {}).get("max_response_tokens", inf) for run in runs]
    longest = max(float(scores_of(scores, *side)["final_response_tokens"].mean()) for side in sides)
    return bool(min(length_ceiling(answers), *limits) - longest <= claim.margin)
