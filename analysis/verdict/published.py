"""Measured beside published: every published number of the same model, benchmark and arm, and what became of it here.

Left out on purpose: a test and a verdict. A single published run has no spread, and a peak is no final value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import hypot, nan, sqrt
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


def paper_comparison(study: Study) -> list[Compared]:
    """Every published number that has a counterpart among the runs, in the order of the papers."""
    rows, compared = comparable(study.configs), list[tuple[Any, Compared]]()
    for arm in study.compared_arms:
        config = _config_of(study, arm)
        settings = settings_of(config)
        is_own = [_is_row_of(row, arm, settings) for _, row in rows.iterrows()]
        own = rows[pd.Series(is_own, index=rows.index, dtype=bool)]
        for benchmark, of_benchmark in own.groupby("benchmark"):
            answers = _answers(study, arm, [name for name, known in benchmarks(config).items() if known == benchmark])
            if not answers.empty:
                compared += [(place, _compared(study, row, arm, answers)) for place, row in of_benchmark.iterrows()]
    return _once_each([one for _, one in sorted(compared, key=lambda placed: placed[0])])


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


def _config_of(study: Study, arm: Arm) -> dict[str, Any]:
    """The settings of an arm, those of its first run that counts."""
    run = study.runs.loc[(study.runs["arm"] == arm.name) & study.runs["run"].isin(study.folders), "run"].iloc[0]
    return study.configs[run]


def _is_row_of(row: pd.Series, arm: Arm, settings: dict[str, Any]) -> bool:
    """Whether the published row is of such an arm; one of a value of a setting only where the arm has that value."""
    if pd.isna(row["at"]):
        return bool(arm.name == row["arm"])
    names = (row["arm"], f"{row['arm']}_{row['at']:g}")
    return arm.name in names and settings.get(row["parameter"]) == row["at"]


def _answers(study: Study, arm: Arm, suites: list[str]) -> pd.DataFrame:
    """The arm's answers to the problems of these benchmarks, with what each says; none where no record names those."""
    evals = answers_to(study, suites)
    evals = evals[evals["arm"] == arm.name].assign(prompt_id=lambda table: table["prompt_id"].astype(object))
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
    interval = t_interval(_by_run(scores).to_numpy(float))
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
        final=interval,
        peak=_peak(answers, name, k),
        error=_error(scores, interval),
        differences=(
            *_differences(scores, fewest, diverged, stated),
            *setting_differences(_config_of(study, arm), stated),
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
