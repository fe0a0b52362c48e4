"""The planted controls of a study of several blocks: could a difference be seen, and is there none without one?"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.formatting import bracket, counted, p_value, plain, signed
from analysis.records.blocks import BlockStudy
from analysis.records.claims import Claim
from analysis.statistics.intervals import t_interval
from analysis.verdict.evidence import Evidence, evidence

POSITIVE_LEVEL = 0.01
NO_CREDIT = "The positive control is not told from DAPO, so every claim about token credit is undecided"


@dataclass(frozen=True)
class ControlRow:
    """A control's answer. passed: None where the runs cannot say. evidence: of differences by seed, None for others."""

    key: str
    name: str
    passed: bool | None
    sentence: str
    evidence: Evidence | None = None

    @property
    def word(self) -> str:
        """As the table says it."""
        return "not known" if self.passed is None else "passed" if self.passed else "failed"


def block_controls(found: BlockStudy) -> list[ControlRow]:
    """C1 blame, C2 random reward, C3 weights of exactly 1, C4 an arm against itself."""
    return [positive(found), negative(found), unit_weights(found), again(found)]


def positive(found: BlockStudy) -> ControlRow:
    """Is blame, which has true token credit, told from DAPO?"""
    shown = _difference(_auc(found, "controls", "blame"), _auc(found, "controls", "dapo"))
    numbers = _numbers(shown)
    if shown.p is None:
        return ControlRow("C1", "blame - dapo", None, f"The positive control has too few seeds ({numbers}).", shown)
    passed = shown.p < POSITIVE_LEVEL and shown.effect > 0
    said = f"The positive control is told from DAPO ({numbers})." if passed else f"{NO_CREDIT} ({numbers})."
    return ControlRow("C1", "blame - dapo", passed, said, shown)


def negative(found: BlockStudy) -> ControlRow:
    """Does a random reward end below DAPO in every seed, and not above where it began?"""
    rows, dapo = found.of("negative", "random_reward"), found.of("negative", "dapo")
    if len(rows) < 2 or dapo.empty:
        return ControlRow("C2", "random reward", None, "No random reward was run on two seeds.")
    gain = t_interval((rows["final_accuracy"] - rows["start_accuracy"]).to_numpy(float))
    passed = bool(rows["final_accuracy"].max() < dapo["final_accuracy"].min()) and not gain.low > 0
    numbers = (
        f"final accuracy {plain(rows['final_accuracy'].mean())} against DAPO's {plain(dapo['final_accuracy'].mean())}"
    )
    change = f"change over training {signed(gain.mean)} {bracket(gain.low, gain.high)}, {counted(gain.n, 'seed')}"
    head = (
        "A random reward ends below DAPO and raises nothing"
        if passed
        else "A random reward is not below DAPO, or rises"
    )
    return ControlRow("C2", "random reward", passed, f"{head}: {numbers}, {change}.")


def unit_weights(found: BlockStudy) -> ControlRow:
    """Is FIPO with weights of exactly 1 DAPO bit for bit, in every recorded step of every seed?"""
    columns = [
        "rollout/accuracy",
        "rollout/response_tokens_mean",
        "rollout/entropy",
        "optimizer/grad_norm",
        "loss/kl_to_old",
    ]
    steps = found.study.metrics.set_index(["run", "step"])[columns]
    runs = {arm: found.of("negative", arm).set_index("seed")["run"] for arm in ("unit_weights", "dapo")}
    shared = runs["unit_weights"].index.intersection(runs["dapo"].index)
    if not len(shared):
        return ControlRow("C3", "weights of 1", None, "Weights of exactly 1 were not run.")
    same = [steps.loc[runs["unit_weights"][seed]].equals(steps.loc[runs["dapo"][seed]]) for seed in shared]
    said = f"in {sum(same)} of {counted(len(same), 'seed')}, over all steps"
    head = (
        "FIPO with weights of exactly 1 is DAPO, number for number"
        if all(same)
        else "FIPO with weights of 1 is not DAPO"
    )
    return ControlRow("C3", "weights of 1 = dapo", all(same), f"{head} ({said}).")


def again(found: BlockStudy) -> ControlRow:
    """DAPO against itself over other seeds, paired by their warm starts: expected to be undecided."""
    other = _auc(found, "again", "dapo_again")
    other.index = other.index - found.blocks["again"].first_seed if "again" in found.blocks else other.index
    dapo = _auc(found, "controls", "dapo")
    shown = _difference(other, dapo)
    if shown.p is None:
        return ControlRow("C4", "dapo - dapo", None, "DAPO was not run against itself on five seeds.", shown)
    passed = shown.decision == "undecided"
    head = "DAPO is not told from itself" if passed else "DAPO is told from itself, as about 1 report in 20 would say"
    return ControlRow("C4", "dapo - dapo", passed, f"{head} ({_numbers(shown)}).", shown)


def _auc(found: BlockStudy, block: str, arm: str) -> pd.Series:
    return found.of(block, arm).set_index("seed")["auc"].sort_index()


def _difference(scores: pd.Series, baseline: pd.Series) -> Evidence:
    """Of a question beside the claims, two-sided, by the paired t over the seeds that both have."""
    differences = (scores - baseline).dropna()
    claim = Claim("control", "", "planted", "exploratory", "superior", "control", "auc", 0.0)
    shown = evidence(claim, differences, None, 1, robust=False)
    return shown if not np.isnan(shown.low) else replace(shown, p=None)


def _numbers(shown: Evidence) -> str:
    interval = f"{signed(shown.effect)} {bracket(shown.low, shown.high)} AUC"
    return f"{interval}, p {p_value(shown.p)}, {counted(shown.n[0], 'pair')}"
