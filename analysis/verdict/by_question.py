"""Two arms' answers to the same questions: what can be said of these runs, and of no other seeds."""

from dataclasses import dataclass

import pandas as pd

from analysis.formatting import bracket, counted, p_value, signed
from analysis.records.outcomes import final_evaluations
from analysis.records.run_files import MEAN
from analysis.records.study import Study
from analysis.statistics.intervals import Difference
from analysis.statistics.questions import clustered, mcnemar
from analysis.verdict.verdicts import Verdict


@dataclass(frozen=True)
class ByQuestion:
    """Two arms on the questions that both answered, over the seeds that both have.

    only_arm, only_baseline: pairs of answers (question, sample and seed) that one of the two has right. mcnemar: the
    exact two-sided p of these being even, None unless it is one pair of runs with an answer a question. difference:
    mean over questions, with the t interval in which a question is one unit.
    """

    key: str
    text: str
    names: tuple[str, str]  # of the arm and the baseline
    runs: int
    questions: int
    only_arm: int
    only_baseline: int
    mcnemar: float | None
    difference: Difference

    @property
    def sentence(self) -> str:
        """What it says, with what it is conditional on."""
        test = "" if self.mcnemar is None else f", McNemar's exact p {p_value(self.mcnemar)}"
        found, (arm, baseline) = self.difference, self.names
        return (
            f"By question, {self.text} [{self.key}]: {signed(found.difference)} {bracket(found.low, found.high)}, "
            f"{counted(self.questions, 'question')} as units, {counted(self.runs, 'pair')} of runs; "
            f"{self.only_arm} answers right in {arm} only, {self.only_baseline} in {baseline} only{test}. "
            "This holds for these runs, not for others of other seeds, so not for the loss."
        )


def by_question(study: Study, verdicts: list[Verdict]) -> list[ByQuestion]:
    """For each pair of arms that a claim on final accuracy compares in an imported study; where answers are known."""
    if not study.is_imported:
        return []
    evals = study.evals[study.evals["sample"] > MEAN]
    last = final_evaluations(evals, {run: {"evaluation": {"final_evaluations": 1}} for run in study.configs})
    pairs = [row for row in verdicts if row.claim.metric == "final_accuracy" and len(row.sides) == 2]
    found = [_of_pair(study, row, *(last[last["arm"] == arm] for _, arm in row.sides)) for row in pairs]
    return [one for one in found if one is not None]


def _of_pair(study: Study, row: Verdict, arm: pd.DataFrame, baseline: pd.DataFrame) -> ByQuestion | None:
    keys = ["seed", "prompt_id", "sample"]
    both = arm[[*keys, "correct"]].merge(baseline[[*keys, "correct"]], on=keys, suffixes=("", "_baseline"))
    if both.empty:
        return None
    differences = both["correct"] - both["correct_baseline"]
    means, seeds = differences.groupby(both["prompt_id"].astype(str)).mean(), both["seed"].nunique()
    only = int((differences > 0).sum()), int((differences < 0).sum())
    p = mcnemar(*only) if len(means) == len(both) else None
    names = study.label(row.sides[0][1]), study.label(row.sides[1][1])
    return ByQuestion(row.key, row.claim.text, names, seeds, len(means), *only, p, clustered(means.to_numpy(float)))
