"""Claims -> the arms and blocks that they ask about, the scores that answer them, and what no runs can answer."""

from itertools import combinations

import pandas as pd

from analysis.records.claims import Claim
from analysis.records.outcomes import PRIMARY, scores_of
from analysis.records.study import Study
from analysis.verdict.levels import best_levels, by_level, by_value, own_best, trend

UNFIXED = "no claims were fixed before the runs"
WORDS = {"auc": "learns faster", "final_accuracy": "ends more accurate"}
Side = tuple[str, str]  # block and arm


def asked_of(study: Study) -> list[Claim]:
    """The study's claims; where none were fixed, or none can be tested, every pair of its arms as exploratory."""
    fixed = list(study.claims.claims) if study.claims else []
    if any(not isinstance(sides_of(study, claim), str) for claim in fixed):
        return fixed
    return [
        _pair(study, block.name, arm, baseline)
        for block in study.blocks.values()
        if not block.varied
        for baseline, arm in combinations([arm for arm in block.arms if not study.role(arm).planted], 2)
    ]


def sides_of(study: Study, claim: Claim) -> tuple[Side, ...] | str:
    """Block and arm of the claim's arm and baseline, or what the study's plan lacks to test it, in words.

    `block/arm` names both. A bare name means the first block that has all bare names of the claim: for a claim about a
    parameter one that varies it, for a claim over levels one that varies something, else one that varies nothing.
    """
    bare = {name for name in claim.arms if "/" not in name}
    block = next((one.name for one in study.blocks.values() if bare <= set(one.arms) and _fits(one.varied, claim)), "")
    sides = list[Side]()
    wanted = "a block that varies a setting" if claim.levels else "a block that varies nothing"
    wanted = f"a block that varies {claim.parameter}" if claim.parameter else wanted
    for name in claim.arms:
        in_block, _, arm = (block, "", name) if name in bare else name.partition("/")
        found = study.blocks.get(in_block)
        if found is None or arm not in found.arms:
            return f"needs {wanted} with {name}"
        if not _fits(found.varied, claim) and not (claim.levels and len(found.levels) == 1):
            return f"needs {wanted}, which {in_block} is not"
        sides.append((in_block, arm))
    return tuple(sides)


def lacking(study: Study, scores: pd.DataFrame, claim: Claim) -> str:
    """Why the claim cannot be tested by what has run, empty where it can be."""
    sides = sides_of(study, claim)
    if isinstance(sides, str):
        return sides
    absent = [arm for block, arm in sides if scores_of(scores, block, arm).empty]
    if absent:
        return f"needs runs of {' and '.join(absent)}"
    if claim.metric not in scores:
        return "needs runs looked at by harness microscope"
    empty = [side[1] for side in sides if scored(study, scores, side, claim)[0].empty]
    return f"no seed of {' and '.join(empty)} has every score" if empty else ""


def scored(study: Study, scores: pd.DataFrame, side: Side, claim: Claim) -> tuple[pd.Series, list[str]]:
    """A side's scores by seed under the claim's metric, levels and parameter, and the runs that they are made from."""
    block, rows = study.blocks[side[0]], scores_of(scores, *side)
    if claim.parameter is not None:
        table = by_value(scores, block, side[1], claim.metric, claim.parameter)
        changes = trend(table, float(claim.start or 1.0), float(claim.end or 1.0))
        return changes, list(rows.loc[rows["seed"].isin(table.index), "run"])
    if claim.levels is None or len(block.levels) == 1:
        return rows.set_index("seed")[claim.metric].dropna().sort_index(), list(rows["run"])
    table = by_level(scores, block, side[1], claim.metric)
    if claim.levels == "mean":
        return table.mean(axis=1), list(rows.loc[rows["seed"].isin(table.index), "run"])
    chosen = rows["seed"].map(best_levels(table))
    return own_best(table), list(rows.loc[rows["place"] == chosen, "run"])


def _fits(varied: tuple[str, ...], claim: Claim) -> bool:
    if claim.parameter is not None:
        return claim.parameter in varied
    return bool(varied) == (claim.levels is not None)


def _pair(study: Study, block: str, arm: str, baseline: str) -> Claim:
    name, outcome = "" if study.is_comparison else f"{block}/", study.description.get("primary_outcome", PRIMARY)
    return Claim(
        id=f"{name}{arm}_above_{baseline}",
        text=f"{study.label(arm)} {WORDS[outcome]} than {study.label(baseline)}",
        source=UNFIXED,
        role="exploratory",
        kind="superior",
        arm=f"{name}{arm}",
        baseline=f"{name}{baseline}",
        metric=outcome,
        margin=0.0,
    )
