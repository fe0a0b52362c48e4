"""Planted controls: could this study have seen what it looks for, and is it silent where there is nothing?"""

from dataclasses import dataclass

import pandas as pd

from analysis.formatting import bracket, counted, listed, p_value, plain, signed
from analysis.records.claims import Claim
from analysis.records.design import Block, RoleName
from analysis.records.outcomes import PRIMARY, scores_of
from analysis.records.study import Study
from analysis.statistics.intervals import t_interval
from analysis.verdict.evidence import Evidence, evidence
from analysis.verdict.inert import identical

POSITIVE_LEVEL = 0.01
KINDS: tuple[RoleName, ...] = ("positive", "negative", "identical", "repeat")


@dataclass(frozen=True)
class Control:
    """A control's answer. passed: None where the runs cannot say. evidence: of its difference from `against`."""

    key: str
    arm: str
    role: RoleName
    against: str | None
    passed: bool | None
    sentence: str
    evidence: Evidence | None = None

    @property
    def word(self) -> str:
        """As tables say it."""
        return "not known" if self.passed is None else "passed" if self.passed else "failed"


def controls(study: Study, scores: pd.DataFrame) -> list[Control]:
    """Every arm whose role is one of KINDS and that has runs in a block that varies nothing, as C1, C2, ..."""
    answer = {"positive": _positive, "negative": _negative, "identical": _identical, "repeat": _repeat}
    found: list[Control] = []
    for kind in KINDS:
        for arm, role in study.roles.items():
            block = _block_of(study, scores, arm, role.against)
            if role.role == kind and block is not None:
                passed, sentence, shown = answer[kind](study, scores, block, arm)
                found.append(Control(f"C{len(found) + 1}", arm, kind, role.against, passed, sentence, shown))
    return found


def sees_effects(found: list[Control]) -> bool | None:
    """Whether a positive control is distinguishable from what it is held against; None where nobody knows."""
    answers = [control.passed for control in found if control.role == "positive"]
    return True if True in answers else False if False in answers else None


Answer = tuple[bool | None, str, Evidence | None]


def _block_of(study: Study, scores: pd.DataFrame, arm: str, against: str | None) -> Block | None:
    """The first block that varies nothing and has runs of the arm, one with the arm that it is held against first."""
    with_runs = {(str(row.block), str(row.arm)) for row in scores[["block", "arm"]].drop_duplicates().itertuples()}
    blocks = [one for one in study.blocks.values() if not one.varied and (one.name, arm) in with_runs]
    return next((one for one in blocks if (one.name, against) in with_runs), next(iter(blocks), None))


def _positive(study: Study, scores: pd.DataFrame, block: Block, arm: str) -> Answer:
    """Is it distinguishable from its baseline at p < 0.01, and from each of its own placebos?"""
    against = study.role(arm).against or block.baseline
    shown = _difference(_by_seed(scores, block.name, arm), _by_seed(scores, block.name, against))
    names = f"{study.label(arm)} {{}} distinguishable from {study.label(against)} ({_numbers(shown)})"
    if shown is None or shown.p is None:
        few = f"The positive control {study.label(arm)} has too few seeds to show what could have been seen"
        return None, f"{few} ({_numbers(shown)}).", shown
    if not (shown.p < POSITIVE_LEVEL and shown.effect > 0):
        failed = f"The positive control failed: {names.format('is not')}"
        return False, f"{failed}, so an undecided claim is no evidence that there is no effect.", shown
    head = f"The positive control passed: {names.format('is')}, so an effect of that size could have been seen"
    return True, f"{head}{_placement(study, scores, block, arm)}.", shown


def _placement(study: Study, scores: pd.DataFrame, block: Block, arm: str) -> str:
    """Whether that effect is one of placement: the control's difference from its own placebos says so, or does not."""
    placebos = [name for name in block.arms if study.role(name).role == "placebo" and study.role(name).against == arm]
    shown = {name: _difference(*(_by_seed(scores, block.name, one) for one in (arm, name))) for name in placebos}
    known = {name: one for name, one in shown.items() if one is not None and one.p is not None}
    words = {name: f"{study.label(name)} ({_numbers(one)})" for name, one in known.items()}
    if not known:
        return "; how much of it is placement on tokens is not known, since no placebo of it was run on enough seeds"
    if alike := [words[name] for name, one in known.items() if not one.low > 0]:
        others = [words[name] for name, one in known.items() if one.low > 0]
        seen = (
            f"; it is distinguishable from {listed(others)}"
            if others
            else ", so these runs do not show that an effect of token placement can be seen"
        )
        return f"; it is not distinguishable from its placebo {listed(alike)}, which may keep most of that effect{seen}"
    return f"; it is distinguishable from {listed(list(words.values()))} too, so that holds for token placement itself"


def _negative(study: Study, scores: pd.DataFrame, block: Block, arm: str) -> Answer:
    """Does it stay where it began? Its gain must stay below half of the smallest gain of the compared arms."""
    rows = scores_of(scores, block.name)
    gains = (rows["final_accuracy"] - rows["start_accuracy"]).groupby(rows["arm"])
    gain, label = t_interval(gains.get_group(arm).dropna().to_numpy(float)), study.label(arm)
    if gain.n < 2:
        return None, f"Not known: {label} has a score of fewer than two seeds.", None
    of_arm = rows[rows["arm"] == arm]
    numbers = (
        f"accuracy {plain(of_arm['start_accuracy'].mean())} to {plain(of_arm['final_accuracy'].mean())}, gain "
        f"{signed(gain.mean)} {bracket(gain.low, gain.high)}, {counted(gain.n, 'seed')}"
    )
    if gain.low > 0:
        said = f"{label} raised accuracy too ({numbers}), so gains here are not all learning from the reward."
        return False, f"The negative control failed: {said}", None
    means = gains.mean()
    others = [float(means[name]) for name in block.arms if name in means and not study.role(name).planted]
    if others and gain.high < min(others) / 2:
        limit = f"raised accuracy by at most {plain(gain.high)} (95 %), less than half of what any compared arm gained"
        said = limit if gain.high > 0 else "did not raise accuracy"
        return True, f"The negative control passed: {label} {said} ({numbers}).", None
    return None, f"Not known: whether {label} raises accuracy is not settled ({numbers}).", None


def _identical(study: Study, _: pd.DataFrame, block: Block, arm: str) -> Answer:
    """Is it the other arm bit for bit, in every recorded step and answer of every seed?"""
    against = study.role(arm).against or block.baseline
    cells = {cell.arm: cell.cell for cell in study.cells if cell.block == block.name}
    same = identical(study, cells[arm], cells[against]) if against in cells else []
    names = f"{study.label(arm)} {{}} {study.label(against)} bit for bit"
    if not same:
        return None, f"Not known: no seed of {study.label(arm)} and {study.label(against)} finished.", None
    said = f"in {sum(same)} of {counted(len(same), 'seed')}, over all steps and answers"
    return all(same), f"{names.format('is' if all(same) else 'is not')} ({said}).", None


def _repeat(study: Study, scores: pd.DataFrame, block: Block, arm: str) -> Answer:
    """Is it distinguishable from the same settings on other seeds? Paired by place where warm starts agree."""
    against = study.role(arm).against or block.baseline
    place = _twin(study, scores, block, against)
    own, label = _by_seed(scores, block.name, arm), study.label(arm)
    if place is None:
        return None, f"Not known: {study.label(against)} was not run with the settings of {label}.", None
    other = _by_seed(scores, place.name, against)
    if len(own.index.intersection(other.index)):
        return None, f"Not known: {label} was run on the seeds of {study.label(against)}, so it repeats its runs.", None
    shift = block.first_seed - place.first_seed
    own.index = own.index - (shift if shift % study.warm_starts == 0 else 0)
    shown = _difference(own, other)
    if shown is None or shown.p is None:
        return None, f"Not known: {label} has too few seeds ({_numbers(shown)}).", shown
    passed = shown.decision == "undecided"
    tail = "" if passed else "; about 1 report in 20 shows this for equal arms"
    names = f"{label} {'is not' if passed else 'is'} distinguishable from {study.label(against)}"
    return passed, f"{names} ({_numbers(shown)}){tail}.", shown


def _twin(study: Study, scores: pd.DataFrame, block: Block, against: str) -> Block | None:
    """The block whose runs of `against` have the settings of this block; the one with the most seeds."""
    same = [
        one
        for one in study.blocks.values()
        if not one.varied and dict(one.settings) == dict(block.settings) and against in one.arms
    ]
    return max(same, key=lambda one: len(scores_of(scores, one.name, against)), default=None)


def _by_seed(scores: pd.DataFrame, block: str, arm: str) -> pd.Series:
    return scores_of(scores, block, arm).set_index("seed")[PRIMARY].dropna().sort_index()


def _difference(arm: pd.Series, against: pd.Series) -> Evidence | None:
    """A test of its own, beside the claims, in the primary outcome; None where an arm has no run."""
    if arm.empty or against.empty:
        return None
    claim = Claim("control", "", "planted", "exploratory", "superior", "control", PRIMARY, 0.0, "against")
    return evidence(claim, arm, against, 1)


def _numbers(shown: Evidence | None) -> str:
    if shown is None:
        return "no run to hold it against"
    ends = "no interval" if pd.isna(shown.low) else bracket(shown.low, shown.high)
    p = "" if shown.p is None else f", p {p_value(shown.p)}"
    seeds = counted(shown.pairs, "pair") if shown.method == "paired" else f"{shown.n[0]} and {shown.n[1]} seeds"
    return f"{signed(shown.effect)} {ends} AUC{p}, {seeds}"
