"""Planted controls: could this comparison have seen what it looks for, and is it silent where there is nothing?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.figures.style import arm_label
from analysis.formatting import bracket, p_value, plain, signed
from analysis.records.claims import Claim
from analysis.records.outcomes import PRIMARY, summary
from analysis.records.records import Study
from analysis.statistics.intervals import Interval, t_interval
from analysis.verdict.evidence import Evidence, evidence

POSITIVE, NEGATIVE = "blame", "random_reward"
POSITIVE_LEVEL = 0.01


@dataclass(frozen=True)
class Control:
    """A planted control's answer: `passed` is None where the runs cannot say; `clause` goes into the verdict."""

    name: str
    passed: bool | None
    clause: str
    sentence: str
    baseline: str | None = None
    evidence: Evidence | None = None


def positive_control(study: Study, table: pd.DataFrame) -> Control:
    """Is the arm with true token credit told from its baseline in the primary outcome, at p < 0.01?"""
    arm = study.control_arm(POSITIVE)
    baseline = _baseline(study, arm.loss_type) if arm else None
    if arm is None or baseline is None:
        clause = "whether token credit could have been seen is not known, since no positive control finished"
        return Control(POSITIVE, None, clause, f"{clause[0].upper()}{clause[1:]}.")
    found = _told_apart(table, arm.name, baseline)
    numbers = f"{signed(found.effect)} {bracket(found.low, found.high)}, p {p_value(found.p)}"
    if found.p is None:
        clause = f"the positive control has too few seeds to show that token credit could have been seen ({numbers})"
        return Control(POSITIVE, None, clause, f"Insufficient seeds: {clause}.", baseline, found)
    passed = found.p < POSITIVE_LEVEL and found.effect > 0
    names = f"{arm_label(arm.name)} {'is' if passed else 'is not'} told from {arm_label(baseline)} ({numbers})"
    if passed:
        sentence = (
            f"Passed: {names}, so an effect of that size would have been seen. Most of it may come from damping "
            "negatives and not from where they fall: passing is necessary for a claim about token credit, not enough."
        )
        clause = f"an effect of token credit could have been seen: {names}"
        return Control(POSITIVE, True, clause, sentence, baseline, found)
    clause = f"this comparison could not have seen token credit: {names}"
    return Control(POSITIVE, False, clause, f"Failed: {clause}.", baseline, found)


def negative_control(study: Study, table: pd.DataFrame) -> Control:
    """Does the arm that is paid at random stay where it began?

    The gain is final minus start accuracy, seed by seed. Learned: its interval lies above 0. Did not learn: the upper
    end stays below half of the smallest gain of the compared arms. Anything between is not known.
    """
    arm = study.control_arm(NEGATIVE)
    gain = _gain(table, arm.name) if arm else None
    if arm is None or gain is None or gain.n < 2:
        clause = "nothing says that a random reward teaches nothing here, since no such control finished on two seeds"
        return Control(NEGATIVE, None, clause, f"Not known: {clause}.")
    start, final = (summary(table, name)[arm.name].mean for name in ("start_accuracy", "final_accuracy"))
    numbers = f"accuracy {plain(start)} to {plain(final)}, gain {signed(gain.mean)} {bracket(gain.low, gain.high)}"
    if gain.low > 0:
        clause = f"a random reward raised accuracy too ({numbers}), so gains here are not all learning from the reward"
        return Control(NEGATIVE, False, clause, f"Failed: {clause}.")
    gains = [_gain(table, other.name).mean for other in study.compared_arms]
    if gains and gain.high < min(gains) / 2:
        limit = f"at most {plain(max(gain.high, 0.0))} (95 %), less than half of what any loss gained"
        clause = f"a random reward raised accuracy by {limit} ({numbers})"
        return Control(NEGATIVE, True, clause, f"Passed: {clause}, n = {gain.n}.")
    clause = f"whether a random reward teaches anything is not settled ({numbers}, n = {gain.n})"
    return Control(NEGATIVE, None, clause, f"Not known: {clause}.")


def collapsed(study: Study, table: pd.DataFrame) -> list[str]:
    """The runs in the table that diverged or end no better than they began: with such t intervals mean little."""
    fell = table["final_accuracy"] <= table["start_accuracy"]
    return [str(run) for run in table.loc[fell | table["run"].isin(study.diverged), "run"]]


def _told_apart(table: pd.DataFrame, arm: str, baseline: str) -> Evidence:
    """Separate test outside the claim family: does the control beat the baseline?"""
    words = f"{arm} is told from {baseline}"
    claim = Claim(POSITIVE, words, "planted", "exploratory", "superior", arm, PRIMARY, 0.0, baseline)
    scores, base = (table[table["arm"] == name].set_index("seed")[PRIMARY] for name in (arm, baseline))
    return evidence(claim, scores, base, primary=1, robust=False)


def _gain(table: pd.DataFrame, arm: str) -> Interval:
    rows = table[table["arm"] == arm]
    gains = (rows["final_accuracy"] - rows["start_accuracy"]).to_numpy(float)
    return t_interval(gains[~np.isnan(gains)])


def _baseline(study: Study, loss_type: str) -> str | None:
    """The arm that differs from the control only in being none: of the same loss, the one named after it first."""
    same = [arm.name for arm in study.compared_arms if arm.loss_type == loss_type]
    return loss_type if loss_type in same else (same[0] if same else None)
