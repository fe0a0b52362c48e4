"""Measured beside published: every published number of the same model, benchmark and arm, and what became of it here.

Left out on purpose: a test and a verdict. A single published run has no spread, and a peak is no final value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

import pandas as pd

from analysis.formatting import counted
from analysis.records.benchmark import answers_to, fewest_answers, problem_scores
from analysis.records.outcomes import final_evaluations
from analysis.records.published import benchmarks, comparable, protocol
from analysis.records.run_files import read_answers
from analysis.records.study import Arm, Study
from analysis.statistics.intervals import Interval, t_interval
from analysis.verdict.paper_protocol import setting_differences, settings_of


@dataclass(frozen=True)
class Compared:
    """A published number with what was measured of it.

    metric: `avg`, `cons` or `pass`; asked, k: of how many answers, there and here. final: over seeds, each the mean of
    its last evaluations. peak: the mean over seeds of each one's highest evaluation, among those with k answers.
    differences: of protocol, in words.
    """

    source: str
    benchmark: str
    arm: str
    metric: str
    asked: int
    published: float
    k: int
    final: Interval
    peak: float
    differences: tuple[str, ...]

    @property
    def difference(self) -> float:
        """Published minus measured final; not a number where the two are of other quantities."""
        return nan if self.metric != "avg" and self.k != self.asked else self.published - self.final.mean


def paper_comparison(study: Study) -> list[Compared]:
    """Every published number that has a counterpart among the runs, in the order of the papers."""
    rows, answers, found = comparable(study.configs), dict[tuple[str, str], pd.DataFrame](), list[Compared]()
    for _, row in rows.iterrows():
        for arm in study.compared_arms:
            if not _is_row_of(row, arm, settings_of(study.config_of(arm.name))):
                continue
            key = arm.name, str(row["benchmark"])
            if key not in answers:
                answers[key] = _answers(study, *key)
            if not answers[key].empty:
                found.append(_compared(study, row, arm, answers[key]))
    return found


def _is_row_of(row: pd.Series, arm: Arm, settings: dict[str, Any]) -> bool:
    """Whether the published row is of such an arm; one of a value of a setting only where the arm has that value."""
    if pd.isna(row["at"]):
        return bool(arm.name == row["arm"])
    names = (row["arm"], f"{row['arm']}_{row['at']:g}")
    return arm.name in names and settings.get(row["parameter"]) == row["at"]


def _answers(study: Study, arm: str, benchmark: str) -> pd.DataFrame:
    """The arm's answers to a benchmark's problems, with what each says; none where no record names those."""
    suites = [suite for suite, known in benchmarks(study.config_of(arm)).items() if known == benchmark]
    evals = answers_to(study, suites)
    evals = evals[evals["arm"] == arm].assign(prompt_id=lambda table: table["prompt_id"].astype(object))
    said = [
        read_answers(study.folders[run]).astype({"prompt_id": object, "answer": object}).assign(run=run)
        for run in evals["run"].unique()
    ]
    return evals.merge(pd.concat(said), on=["run", "step", "prompt_id", "sample"], how="left") if said else evals


def _compared(study: Study, row: pd.Series, arm: Arm, answers: pd.DataFrame) -> Compared:
    """One published number beside the arm's; a run that diverged counts at its last evaluation."""
    final = final_evaluations(answers, study.configs)
    fell = final["run"].isin(study.diverged)
    final = final[~fell | (final["step"] == final.groupby("run")["step"].transform("max"))]
    name, _, asked = str(row["metric"]).partition("@")
    fewest = int(fewest_answers(final).min())
    k = fewest if name == "avg" else min(fewest, int(asked))
    scores = problem_scores(final, name, k)
    by_run = scores.groupby(["run", "step"])["score"].mean().groupby("run").mean()
    stated = protocol(str(row["source"]), str(row["model"]), str(row["arm"]))
    if not pd.isna(row["at"]):
        stated[str(row["parameter"])] = row["at"]
    diverged = final.loc[final["run"].isin(study.diverged), "run"].nunique()
    return Compared(
        source=str(row["source"]),
        benchmark=str(row["benchmark"]),
        arm=arm.name,
        metric=name,
        asked=int(asked),
        published=float(row["value"]),
        k=k,
        final=t_interval(by_run.to_numpy(float)),
        peak=_peak(answers, name, k),
        differences=(
            *_differences(scores, fewest, diverged, stated),
            *setting_differences(study.config_of(arm.name), stated),
        ),
    )


def _differences(scores: pd.DataFrame, fewest: int, diverged: int, stated: Mapping[str, Any]) -> Iterator[str]:
    """Of which checkpoints, of how many runs, and of how many answers to how many problems both numbers are."""
    seeds, evaluations = scores["run"].nunique(), int(scores.groupby("run")["step"].nunique().max())
    last = "that of the last evaluation" if evaluations == 1 else f"the mean of the last {evaluations} evaluations"
    peak = "the published value is a peak, chosen by the benchmark itself"
    of = peak if stated.get("checkpoint") == "peak" else "of which checkpoint the published value is, is not stated"
    yield f"{of}; the final value here is {last}, wherever the peak lay"
    if seeds > 1:
        yield f"one run in the paper, {counted(seeds, 'seed')} here"
    if diverged:
        yield f"{counted(diverged, 'run')} here diverged: counted at the last evaluation"
    counts = {"answers": ("answers to a problem", fewest), "problems": ("problems", scores["prompt_id"].nunique())}
    for name, (words, ours) in counts.items():
        if stated.get(name, ours) != ours:
            yield f"{words}: {ours} here, {stated[name]} published"


def _peak(answers: pd.DataFrame, metric: str, k: int) -> float:
    """The mean over runs of the highest evaluation; `cons` and `pass` of those with k answers to every problem."""
    if metric != "avg":
        enough = fewest_answers(answers).rename("fewest").reset_index()
        answers = answers.merge(enough[enough["fewest"] >= k][["run", "step"]], on=["run", "step"])
    scores = problem_scores(answers, metric, k)
    return float(scores.groupby(["run", "step"])["score"].mean().groupby("run").max().mean())
