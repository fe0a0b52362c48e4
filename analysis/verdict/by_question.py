"""Two arms' answers to the same questions: what can be said of these runs, and of no other seeds."""

from dataclasses import dataclass

import pandas as pd
from scipy.stats import binomtest

from analysis.formatting import bracket, counted, p_value, signed
from analysis.records.outcomes import final_evaluations
from analysis.records.run_files import MEAN
from analysis.records.study import Study
from analysis.statistics.intervals import Difference, paired_t
from analysis.verdict.verdicts import Verdict

KEYS = ["seed", "prompt_id", "sample"]  # of what two arms answered both


@dataclass(frozen=True)
class ByQuestion:
    """Two arms on the questions that both answered, over the seeds that both have, or all runs where they share none.

    difference: of the means over the evaluations that final accuracy is the mean of, with the t interval in which a
    question is one unit (arXiv 2411.00640). only_arm, only_baseline: at the last of them, pairs of answers that one of
    the two has right. mcnemar: the exact two-sided p of these being even, None unless it is one pair of runs with an
    answer a question.
    """

    key: str
    names: tuple[str, str]  # of the arm and the baseline
    paired_by_seed: bool
    questions: int
    difference: Difference
    only_arm: int
    only_baseline: int
    mcnemar: float | None

    @property
    def sentence(self) -> str:
        """What it says, with what it is conditional on."""
        test = "" if self.mcnemar is None else f", McNemar's exact p {p_value(self.mcnemar)}"
        found, (arm, baseline) = self.difference, self.names
        runs = "runs paired by seed" if self.paired_by_seed else "all runs, since none share a seed"
        return (
            f"By question, {arm} minus {baseline} [{self.key}]: {signed(found.difference)} "
            f"{bracket(found.low, found.high)} final accuracy, {counted(self.questions, 'question')} as units, {runs}; "
            f"at the last evaluation {self.only_arm} answers right in {arm} only, {self.only_baseline} in {baseline} "
            f"only{test}. This holds for these runs, not for others of other seeds, so not for the loss."
        )


def by_question(study: Study, verdicts: list[Verdict]) -> list[ByQuestion]:
    """For each pair of arms that a claim compares in an imported study, where they answered the same questions."""
    if not study.is_imported:
        return []
    final = final_evaluations(study.evals[study.evals["sample"] > MEAN], study.configs)
    keys = dict[tuple[str, ...], str]()
    for row in (row for row in verdicts if len(row.sides) == 2):
        keys.setdefault(tuple(arm for _, arm in row.sides), row.key)
    found = [_of_pair(study, key, *(final[final["arm"] == arm] for arm in arms)) for arms, key in keys.items()]
    return [one for one in found if one is not None]


def _of_pair(study: Study, key: str, arm: pd.DataFrame, baseline: pd.DataFrame) -> ByQuestion | None:
    shared = set(arm["seed"]) & set(baseline["seed"])
    if shared:
        arm, baseline = (rows[rows["seed"].isin(shared)] for rows in (arm, baseline))
    first, second = (rows.groupby(rows["prompt_id"].astype(str))["correct"].mean() for rows in (arm, baseline))
    differences = (first - second).dropna()
    if differences.empty:
        return None
    last = [rows[rows["step"] == rows.groupby("run")["step"].transform("max")] for rows in (arm, baseline)]
    both = last[0].merge(last[1], on=KEYS if shared else KEYS[1:], suffixes=("", "_baseline"))
    signs = both["correct"] - both["correct_baseline"]
    only = int((signs > 0).sum()), int((signs < 0).sum())
    p = mcnemar(*only) if both["prompt_id"].is_unique else None
    names = study.label(str(arm["arm"].iloc[0])), study.label(str(baseline["arm"].iloc[0]))
    return ByQuestion(key, names, bool(shared), len(differences), paired_t(differences.to_numpy(float)), *only, p)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p: a question that one of two runs alone has right is as likely the one's as the other's."""
    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0
