"""A study with what its figures, tables and sentences share, computed once."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis.records.outcomes import final_evaluations, outcomes
from analysis.records.study import Study
from analysis.records.tokens import read_tokens
from analysis.statistics.length import within_prompt, within_prompt_table
from analysis.verdict.verdicts import Verdict, verdict


@dataclass(frozen=True)
class Findings:
    """A study with what was computed from it once: outcomes per run, verdict, and the within-prompt view.

    answers: those of the last evaluations, in the study's order of arms.
    axis: what the course of training is drawn over, one of curves.AXES.
    """

    study: Study
    outcomes: pd.DataFrame
    verdict: Verdict
    within_prompt: pd.DataFrame
    answers: pd.DataFrame
    axis: str = "steps"

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """The tokens that runs with influence weights kept, read when first asked for."""
        return read_tokens(self.study)


def findings(study: Study, axis: str = "steps") -> Findings:
    """All that the figures, tables and sentences of a report share."""
    table = outcomes(study)
    order = {arm.name: place for place, arm in enumerate(study.arms)}
    table = table.sort_values(["arm", "seed"], key=lambda column: column.map(order) if column.name == "arm" else column)
    answers = final_answers(study)
    within = within_prompt_table(within_prompt(answers))
    return Findings(study, table.reset_index(drop=True), verdict(study, table), within, answers, axis)


def final_answers(study: Study) -> pd.DataFrame:
    """The answers of the last evaluations, in the study's order of arms."""
    answers = final_evaluations(study.evals)
    place = {arm.name: index for index, arm in enumerate(study.arms)}
    ordered = answers.assign(place=answers["arm"].map(place), truncated=answers["truncated"].astype(bool))
    return ordered.sort_values(["place", "seed", "step", "prompt_id", "sample"], ignore_index=True)


def seed_counts(found: Findings) -> str:
    """How many seeds each arm has, for captions."""
    counts = found.outcomes.groupby("arm", sort=False).size()
    return "n (seeds): " + ", ".join(f"{arm} {count}" for arm, count in counts.items()) + "."
