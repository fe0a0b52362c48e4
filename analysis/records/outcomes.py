"""What each run is judged by: one table of scores, a row per block, arm, level and seed.

Left out on purpose: choosing the best checkpoint, and the peak, a maximum over looks that is biased upwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.records.credit import PARTS, read_microscope
from analysis.records.curves import spent
from analysis.records.run_files import LENIENT
from analysis.records.study import Study, evaluation_curves
from analysis.statistics.intervals import Interval, t_interval
from analysis.statistics.length import length_slopes

PRIMARY: Final = "auc"
FINAL_EVALUATIONS = 3  # of runs whose config does not say


@dataclass(frozen=True)
class Outcome:
    """An outcome's name, its unit in a sentence, and the digits and the scale it is shown with."""

    label: str
    unit: str
    digits: int = 3
    scale: float = 1.0


OUTCOMES = {
    "auc": Outcome("speed of learning (AUC: mean rollout accuracy over the steps)", "AUC"),
    "final_accuracy": Outcome("final accuracy (mean of the last evaluations)", "final accuracy"),
    "start_accuracy": Outcome("accuracy before training", "accuracy before training"),
    "accuracy_at_equal_tokens": Outcome(
        "evaluation accuracy at equal generated tokens", "accuracy at equal generated tokens"
    ),
    "final_response_tokens": Outcome("response tokens at the last evaluations", "tokens per answer", digits=1),
    "generated_tokens": Outcome(
        "generated tokens, discarded ones included (thousands)", "thousand generated tokens", digits=0, scale=1e-3
    ),
    "seconds": Outcome("seconds", "seconds", digits=1),
    "length_slope": Outcome(
        "log-odds of being right per unit of log tokens, within prompt, last evaluations", "log-odds", digits=2
    ),
}
OUTCOMES |= {f"credit/{key}": Outcome(f"credit: {text}", "cosine") for key, (text, *_) in PARTS.items()}
COURSE = {  # means over a run's steps, of what its updates looked like
    "gradient_norm": "optimizer/grad_norm",
    "clipped_share": "optimizer/clipped_share",
    "step_norm": "optimizer/step_norm",
    "kl_to_old": "loss/kl_to_old",
    "influence_weight": "loss/influence_weight",
    "moved_share": "loss/influence_weight_moved",
    "low_share": "loss/influence_weight_at_low",
    "high_share": "loss/influence_weight_at_high",
    "safety_share": "loss/safety_fraction",
    "clip_low_share": "loss/clip_fraction_low",
    "clip_high_share": "loss/clip_fraction_high",
    "dual_clip_share": "loss/clip_fraction_dual",
}


def outcomes(study: Study) -> pd.DataFrame:
    """The scores: block, arm (of the family), level, place, seed, cell, run, warm_start, collapsed, OUTCOMES, COURSE.

    A row per block, arm, level and seed whose run counts, in the study's order. place: of the level in its block.
    lenient_start, lenient_final: accuracy where answers are read leniently. collapsed: the run diverged or ended no
    better than it began. Names of COURSE that no run recorded have no column, nor `credit/...` where no microscope
    measured any.
    """
    table = _by_run(study)
    rows = pd.DataFrame([vars(cell) for cell in study.cells]).merge(
        table.rename(columns={"arm": "cell"}), on="cell", how="inner"
    )
    planned = {arm.name: arm.seeds for arm in study.arms}
    keys = zip(rows["block"], rows["cell"], rows["seed"], strict=True)
    counted = {
        (cell.block, cell.cell, seed) for cell in study.cells for seed in study.seeds_in(cell, planned[cell.cell])
    }
    rows = rows[[key in counted for key in keys]].reset_index(drop=True)
    budgets = {block: token_budget(study, rows[rows["block"] == block]) for block in study.blocks}
    return rows.assign(accuracy_at_equal_tokens=_at_budgets(study, rows, budgets))


def scores_of(scores: pd.DataFrame, block: str, arm: str | None = None) -> pd.DataFrame:
    """The rows of a block, or of one arm in it."""
    rows = scores[scores["block"] == block]
    return rows if arm is None else rows[rows["arm"] == arm]


def summary(table: pd.DataFrame, outcome: str) -> dict[str, Interval]:
    """The t interval of an outcome over the seeds of each arm, in the table's order of arms."""
    return {str(arm): t_interval(rows[outcome].to_numpy(float)) for arm, rows in table.groupby("arm", sort=False)}


def summary_table(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The same as a tidy table: arm, outcome, mean, low, high, n."""
    rows = []
    for name in names:
        for arm, interval in summary(table, name).items():
            rows.append({"arm": arm, "outcome": name, **vars(interval)})
    return pd.DataFrame(rows)


def final_evaluations(evals: pd.DataFrame, configs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of each run's last evaluations, as many as its own config says takes more answers.

    The evaluation before training is never among them unless it is all there is.
    """
    wanted = []
    for run, steps in evals.groupby("run", sort=False, observed=True)["step"].unique().items():
        count = int(configs[str(run)].get("evaluation", {}).get("final_evaluations", FINAL_EVALUATIONS))
        ordered = sorted(int(step) for step in steps)
        wanted += [(run, step) for step in ([step for step in ordered if step > 0] or ordered)[-count:]]
    keys = ["run", "step"]
    return evals[pd.MultiIndex.from_frame(evals[keys]).isin(pd.MultiIndex.from_tuples(wanted, names=keys))]


def token_budget(study: Study, rows: pd.DataFrame) -> float:
    """What the most frugal compared run of a block generated in total; planted controls do not set the budget."""
    planted = rows["arm"].map(lambda arm: study.role(arm).planted)
    compared = rows[~planted.astype(bool) & ~rows["run"].isin(study.diverged)]
    return float((rows if compared.empty else compared)["generated_tokens"].min())


def _at_budgets(study: Study, rows: pd.DataFrame, budgets: Mapping[str, float]) -> list[float]:
    """Evaluation accuracy of each row's run where it had generated its block's budget; not a number if it never did."""
    evaluated = study.evaluated[["run", "step", "accuracy"]]
    curves = evaluated.merge(spent(study, "generated_tokens"), on=["run", "step"]).sort_values(["run", "x"])
    by_run = {run: (of_run["x"], of_run["accuracy"]) for run, of_run in curves.groupby("run", observed=True)}
    last = dict(zip(rows["run"], rows["final_accuracy"], strict=True))
    if not by_run:  # imported runs may not know their tokens
        return [np.nan] * len(rows)
    return [
        float(last[run])
        if run in study.diverged
        else float(np.interp(budgets[block], *by_run[run], right=np.nan))
        if run in by_run
        else np.nan
        for run, block in zip(rows["run"], rows["block"], strict=True)
    ]


def _by_run(study: Study) -> pd.DataFrame:
    """A row per run that counts: run, arm (the cell), seed, warm_start, collapsed, the outcomes and COURSE."""
    runs = study.runs[study.runs["run"].isin(study.folders)].set_index("run")[["arm", "seed"]]
    recorded = {name: key for name, key in COURSE.items() if key in study.metrics}
    course = study.metrics.groupby("run")[list(recorded.values())].mean()
    columns = {
        "auc": study.metrics.groupby("run")["rollout/accuracy"].mean(),
        **_evaluation_outcomes(study),
        **_ledger_outcomes(study.metrics),
        **{name: course[key] for name, key in recorded.items()},
    }
    microscope = read_microscope(study)
    table = runs.join(pd.DataFrame(columns)).join(microscope.parts() if microscope else pd.DataFrame())
    for run in study.diverged:
        if run in table.index:
            _at_last_evaluation(table, study, run)
    fell = (table["final_accuracy"] <= table["start_accuracy"]) & ("fork" not in study.description)  # forks are short
    fell |= table.index.isin(study.diverged)
    return table.assign(collapsed=fell, warm_start=table["seed"] % study.warm_starts).reset_index()


def _at_last_evaluation(table: pd.DataFrame, study: Study, run: str) -> None:
    """Give a diverged run the accuracy of its last evaluation from there on: to leave it out would flatter its arm.

    Of an imported one, whose training accuracy may be another measure, the last of these counts in the AUC, where a
    line may stand for several steps.
    """
    curve = study.evaluated[study.evaluated["run"] == run]
    steps = study.metrics.loc[study.metrics["run"] == run, ["step", "rollout/accuracy"]].dropna()
    recorded = steps["rollout/accuracy"]
    last = float((recorded if study.is_imported and len(recorded) else curve["accuracy"]).iloc[-1])
    if len(curve):
        table.loc[run, "final_accuracy"] = curve["accuracy"].iloc[-1]
        table.loc[run, "lenient_final"] = _leniently(study.evals[study.evals["run"] == run])["accuracy"].iloc[-1]
    if len(recorded) or not study.is_imported:
        of_line = (steps["step"].iloc[-1] + 1) / len(recorded) if study.is_imported else 1
        planned = max(int(study.configs[run]["run"]["steps"]), len(recorded))
        table.loc[run, "auc"] = (of_line * recorded.sum() + (planned - of_line * len(recorded)) * last) / planned


def _evaluation_outcomes(study: Study) -> dict[str, pd.Series]:
    curves, last = study.evaluated, final_evaluations(study.evals, study.configs)
    lenient, lenient_last = (_leniently(evals) for evals in (study.evals, last))
    final = evaluation_curves(last).groupby("run")
    return {
        "length_slope": length_slopes(last[~last["truncated"].astype(bool)]),
        "final_accuracy": final["accuracy"].mean(),
        "final_response_tokens": final["response_tokens"].mean(),
        "start_accuracy": curves[curves["step"] == 0].set_index("run")["accuracy"],
        "lenient_start": lenient[lenient["step"] == 0].set_index("run")["accuracy"],
        "lenient_final": lenient_last.groupby("run")["accuracy"].mean(),
    }


def _leniently(evals: pd.DataFrame) -> pd.DataFrame:
    """The evaluation curves where answers are read leniently."""
    return evaluation_curves(evals.assign(correct=evals[LENIENT]))


def _ledger_outcomes(metrics: pd.DataFrame) -> dict[str, pd.Series]:
    wanted = {"generated_tokens": "ledger/generated_tokens", "seconds": "time/elapsed_s"}
    last = metrics.sort_values("step").groupby("run").tail(1).set_index("run").reindex(columns=list(wanted.values()))
    return {name: last[key] for name, key in wanted.items()}
