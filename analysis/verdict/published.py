"""Measured beside published: every published number of the same model, benchmark and arm, and what became of it here.

Left out on purpose: a test and a verdict. A single published run has no spread, and a peak is no final value.
"""

from dataclasses import dataclass, replace
from math import hypot, nan, sqrt
from typing import Any

import pandas as pd

from analysis.records.benchmark import answers_to, fewest_answers, problem_scores
from analysis.records.outcomes import final_evaluations
from analysis.records.published import benchmarks, comparable, protocol
from analysis.records.run_files import read_answers
from analysis.records.study import Arm, Study
from analysis.statistics.intervals import Interval, t_interval
from analysis.verdict.paper_protocol import (
    benchmark_differences,
    evaluation_differences,
    setting_differences,
    settings_of,
)


@dataclass(frozen=True)
class Compared:
    """A published number with what was measured of it.

    metric: `avg`, `cons` or `pass`; asked, k: of how many answers, there and here. final: over seeds, each the mean of
    its last evaluations. peak: the mean over seeds of each one's highest evaluation, among those with k answers.
    error: one standard error, over these problems and over seeds together. differences: of protocol, in words.
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
    error: float
    differences: tuple[str, ...]

    @property
    def difference(self) -> float:
        """Published minus measured final; not a number where the two are of other quantities."""
        return nan if self.metric != "avg" and self.k != self.asked else self.published - self.final.mean


@dataclass(frozen=True)
class Measured:
    """An arm's answers to one benchmark: at all evaluations, and at each run's last ones; how many runs diverged."""

    answers: pd.DataFrame
    final: pd.DataFrame
    diverged: int

    def fewest(self) -> int:
        """Answers that every problem has at the last evaluations."""
        return int(fewest_answers(self.final).min())


def paper_comparison(study: Study) -> list[Compared]:
    """Every published number that has a counterpart among the runs, in the order of the papers."""
    rows = comparable(study.configs)
    found: dict[tuple[str, str], Measured | None] = {}
    compared = []
    for _, row in rows.iterrows():
        for arm in study.compared_arms:
            config = config_of(study, arm)
            if not _is_row_of(row, arm, settings_of(config)):
                continue
            key = (arm.name, str(row["benchmark"]))
            if key not in found:
                found[key] = _measured(study, arm, str(row["benchmark"]), rows)
            if (measured := found[key]) is not None:
                compared.append(_compared(row, arm, measured, config))
    return _once_each(compared)


def _once_each(compared: list[Compared]) -> list[Compared]:
    """What several tables of a paper repeat, once, with all of its sources."""
    found: dict[tuple[object, ...], Compared] = {}
    for one in compared:
        key = (one.benchmark, one.arm, one.metric, one.published, one.differences)
        if key in found:
            paper, _, place = one.source.partition(", ")
            earlier = found[key].source
            one = replace(one, source=f"{earlier}; {place if earlier.startswith(paper) else one.source}")
        found[key] = one
    return list(found.values())


def config_of(study: Study, arm: Arm) -> dict[str, Any]:
    """The settings of an arm, those of its first run that counts."""
    run = study.runs.loc[(study.runs["arm"] == arm.name) & study.runs["run"].isin(study.folders), "run"].iloc[0]
    return study.configs[run]


def _is_row_of(row: pd.Series, arm: Arm, settings: dict[str, Any]) -> bool:
    """Whether the published row is of such an arm; one of a value of a setting only where the arm has that value."""
    if pd.isna(row["at"]):
        return bool(arm.name == row["arm"])
    names = (row["arm"], f"{row['arm']}_{row['at']:g}")
    return arm.name in names and settings.get(row["parameter"]) == row["at"]


def _measured(study: Study, arm: Arm, benchmark: str, rows: pd.DataFrame) -> Measured | None:
    """The arm's answers to the benchmark; None where its records do not say which they are."""
    names = [name for name, known in benchmarks(config_of(study, arm)).items() if known == benchmark]
    evals = answers_to(study, names)
    evals = evals[evals["arm"] == arm.name].assign(prompt_id=lambda table: table["prompt_id"].astype(object))
    if evals.empty:
        return None
    wanted = rows[(rows["benchmark"] == benchmark) & (rows["arm"] == arm.name)]
    if wanted["metric"].str.startswith("cons").any():
        evals = _with_answers(study, evals)
    final = final_evaluations(evals, study.configs)
    # a run that diverged counts at its last evaluation
    last = final.groupby("run")["step"].transform("max")
    fell = final["run"].isin(study.diverged)
    return Measured(evals, final[~fell | (final["step"] == last)], final.loc[fell, "run"].nunique())


def _with_answers(study: Study, evals: pd.DataFrame) -> pd.DataFrame:
    """The same rows with what each answer says."""
    parts = [
        rows.merge(
            read_answers(study.folders[str(run)]).astype({"prompt_id": object, "answer": object}),
            on=["step", "prompt_id", "sample"],
            how="left",
        )
        for run, rows in evals.groupby("run", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def _compared(row: pd.Series, arm: Arm, measured: Measured, config: dict[str, Any]) -> Compared:
    """One published number beside the arm's."""
    name, _, asked = str(row["metric"]).partition("@")
    fewest = measured.fewest()
    k = fewest if name == "avg" else min(fewest, int(asked))
    scores = problem_scores(measured.final, name, k)
    final = t_interval(_by_run(scores).to_numpy(float))
    stated = protocol(str(row["source"]), str(row["model"]), str(row["arm"]))
    if not pd.isna(row["at"]):
        stated[str(row["parameter"])] = row["at"]
    evaluations = int(scores.groupby("run")["step"].nunique().max())
    differences = [
        *evaluation_differences(final.n, measured.diverged, evaluations, stated),
        *benchmark_differences(fewest, scores["prompt_id"].nunique(), stated),
        *setting_differences(config, stated),
    ]
    return Compared(
        source=str(row["source"]),
        benchmark=str(row["benchmark"]),
        arm=arm.name,
        metric=name,
        asked=int(asked),
        published=float(row["value"]),
        k=k,
        final=final,
        peak=_peak(measured.answers, name, k),
        error=_error(scores, final),
        differences=tuple(differences),
    )


def _by_run(scores: pd.DataFrame) -> pd.Series:
    """The mean over problems, then over evaluations, of each run."""
    return scores.groupby(["run", "step"])["score"].mean().groupby("run").mean()


def _peak(answers: pd.DataFrame, metric: str, k: int) -> float:
    """The mean over runs of the highest evaluation; `cons` and `pass` of those with k answers to every problem."""
    if metric != "avg":
        enough = fewest_answers(answers).rename("fewest").reset_index()
        answers = answers.merge(enough[enough["fewest"] >= k][["run", "step"]], on=["run", "step"])
    scores = problem_scores(answers, metric, k)
    return float(scores.groupby(["run", "step"])["score"].mean().groupby("run").max().mean())


def _error(scores: pd.DataFrame, final: Interval) -> float:
    """One standard error: over the problems, of each one's mean, and over seeds, together; none of one problem.

    That over problems stands in for the spread of the published run, of which nothing is known. One seed has none.
    """
    problems = scores.groupby("prompt_id")["score"].mean()
    if len(problems) < 2:
        return nan
    seeds = float(_by_run(scores).std(ddof=1)) / sqrt(final.n) if final.n > 1 else 0.0
    return hypot(float(problems.std(ddof=1)) / sqrt(len(problems)), seeds)
