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
    """Every arm that has the role of a control and runs in a block that varies nothing, as C1, C2, ..."""
    answers = {"positive": _positive, "negative": _negative, "identical": _identical, "repeat": _repeat}
    found: list[Control] = []
    for kind, answer in answers.items():
        for arm, role in study.roles.items():
            block = _block_of(study, scores, arm, role.against)
            if role.role == kind and block is not None:
                against = role.against or block.baseline
                shown = answer(study, scores, block, (arm, against))
                found.append(Control(f"C{len(found) + 1}", arm, kind, role.against, *shown))
    return found


def sees_effects(found: list[Control]) -> bool | None:
    """Whether a positive control is distinguishable from what it is held against; None where nobody knows."""
    answers = [control.passed for control in found if control.role == "positive"]
    return True if True in answers else False if False in answers else None


Answer = tuple[bool | None, str, Evidence | None]  # whether it passed, in words, on which evidence
Arms = tuple[str, str]  # the control, and what it is held against


def _block_of(study: Study, scores: pd.DataFrame, arm: str, against: str | None) -> Block | None:
    """The first block that varies nothing and has runs of the arm, one with the arm that it is held against first."""
    with_runs = {(str(row.block), str(row.arm)) for row in scores[["block", "arm"]].drop_duplicates().itertuples()}
    blocks = [one for one in study.blocks.values() if not one.varied and (one.name, arm) in with_runs]
    return next((one for one in blocks if (one.name, against) in with_runs), next(iter(blocks), None))


def _positive(study: Study, scores: pd.DataFrame, block: Block, arms: Arms) -> Answer:
    """Is it distinguishable from its baseline at p < 0.01, and from each of its own placebos?"""
    arm, against = arms
    shown = _difference(_by_seed(scores, block.name, arm), _by_seed(scores, block.name, against))
    names = f"{study.label(arm)} {{}} distinguishable from {study.label(against)} ({_numbers(shown)})"
    if shown is None or shown.p is None:
        few = f"The positive control {study.label(arm)} has too few seeds to show what could have been seen"
        return None, f"{few} ({_numbers(shown)}).", shown
    if not (shown.p < POSITIVE_LEVEL and shown.effect > 0):
        failed = f"The positive control failed: {names.format('is not')}"
        return False, f"{failed}, so an undecided claim is no evidence that there is no effect.", shown
    head = f"The positive control passed: {names.format('is')}, so an effect of that size could have been seen"
    return True, f"{head}; {_placement(study, scores, block, arm)}.", shown


def _placement(study: Study, scores: pd.DataFrame, block: Block, arm: str) -> str:
    """Whether that effect is one of placement: the control's difference from its own placebos says so, or does not."""
    apart, alike = list[str](), list[str]()
    for name in block.arms:
        if study.role(name).role == "placebo" and study.role(name).against == arm:
            shown = _difference(_by_seed(scores, block.name, arm), _by_seed(scores, block.name, name))
            if shown is not None and shown.p is not None:
                (apart if shown.low > 0 else alike).append(f"{study.label(name)} ({_numbers(shown)})")
    if alike:
        no = f"it is not distinguishable from its placebo {listed(alike)}, which may keep most of that effect"
        if apart:
            return f"{no}; it is distinguishable from {listed(apart)}"
        return f"{no}, so these runs do not show that an effect of token placement can be seen"
    if apart:
        return f"it is distinguishable from {listed(apart)} too, so that holds for token placement itself"
    return "how much of it is placement on tokens is not known, since no placebo of it was run on enough seeds"


def _negative(study: Study, scores: pd.DataFrame, block: Block, arms: Arms) -> Answer:
    """Does it stay where it began? Its gain must stay below half of the smallest gain of the compared arms."""
    arm, rows = arms[0], scores_of(scores, block.name)
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


def _identical(study: Study, _: pd.DataFrame, block: Block, arms: Arms) -> Answer:
    """Is it the other arm bit for bit, in every recorded step and answer of every seed?"""
    cells = {cell.arm: cell.cell for cell in study.cells if cell.block == block.name}
    same = identical(study, cells[arms[0]], cells[arms[1]]) if arms[1] in cells else []
    arm, against = map(study.label, arms)
    if not same:
        return None, f"Not known: no seed of {arm} and {against} finished.", None
    said = f"in {sum(same)} of {counted(len(same), 'seed')}, over all steps and answers"
    return all(same), f"{arm} {'is' if all(same) else 'is not'} {against} bit for bit ({said}).", None


def _repeat(study: Study, scores: pd.DataFrame, block: Block, arms: Arms) -> Answer:
    """Is it distinguishable from the same settings on other seeds? Paired by place where warm starts agree.

    It is held against the block whose runs have the settings of this block; of several, that with the most seeds.
    """
    (arm, against), (label, other_label) = arms, map(study.label, arms)
    same = [one for one in study.blocks.values() if not one.varied and one.settings == block.settings]
    others = [(_by_seed(scores, one.name, against), one.first_seed) for one in same if against in one.arms]
    if not others:
        return None, f"Not known: {other_label} was not run with the settings of {label}.", None
    other, first_seed = max(others, key=lambda of_block: len(of_block[0]))
    own = _by_seed(scores, block.name, arm)
    if len(own.index.intersection(other.index)):
        return None, f"Not known: {label} was run on the seeds of {other_label}, so it repeats its runs.", None
    shift = block.first_seed - first_seed
    own.index = own.index - (shift if shift % study.warm_starts == 0 else 0)
    shown = _difference(own, other)
    if shown is None or shown.p is None:
        return None, f"Not known: {label} has too few seeds ({_numbers(shown)}).", shown
    passed = shown.decision == "undecided"
    names = f"{label} {'is not' if passed else 'is'} distinguishable from {other_label}"
    tail = "" if passed else "; about 1 report in 20 shows this for equal arms"
    return passed, f"{names} ({_numbers(shown)}){tail}.", shown


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
