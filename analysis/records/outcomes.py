"""What each run is judged by: one number per run and outcome, the primary one fixed before the runs.

Left out on purpose: choosing the best checkpoint. The peak is listed and named as what it is, a maximum over looks
that is biased upwards.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.records.records import Study
from analysis.statistics.intervals import Interval, t_interval
from analysis.statistics.length import grouped, length_slope
from analysis.statistics.peak import peak_inflation

FINAL_EVALUATIONS = 3
PRIMARY = "auc"


@dataclass(frozen=True)
class Outcome:
    """An outcome's name with its unit, and the digits and the scale it is shown with."""

    label: str
    digits: int = 3
    scale: float = 1.0


OUTCOMES = {
    "auc": Outcome("area under the training curve (AUC: mean rollout accuracy over the steps)"),
    "final_accuracy": Outcome(f"final accuracy (mean of the last {FINAL_EVALUATIONS} evaluations)"),
    "start_accuracy": Outcome("accuracy before training"),
    "accuracy_at_equal_tokens": Outcome("evaluation accuracy at equal generated tokens"),
    "final_response_tokens": Outcome("response tokens at the last evaluations", digits=1),
    "generated_tokens": Outcome("generated tokens, discarded ones included (thousands)", digits=0, scale=1e-3),
    "discarded_tokens": Outcome("of these generated and not trained on (thousands)", digits=0, scale=1e-3),
    "seconds": Outcome("seconds", digits=1),
    "peak_accuracy": Outcome("peak of the evaluations (biased upwards)"),
    "peak_inflation": Outcome("by how much luck alone would lift that peak, were the skill constant"),
    "length_slope": Outcome(
        "log-odds of being right per unit of log tokens, within prompt, last evaluations", digits=2
    ),
}


def outcomes(study: Study) -> pd.DataFrame:
    """A row per run that counts: run, arm, seed, and a column for each of OUTCOMES."""
    runs = study.runs[study.runs["run"].isin(study.folders)].set_index("run")[["arm", "seed"]]
    columns = {
        "auc": study.metrics.groupby("run")["rollout/accuracy"].mean(),
        **_evaluation_outcomes(study.evals),
        **_ledger_outcomes(study.metrics),
        "accuracy_at_equal_tokens": accuracy_at_equal_tokens(study),
    }
    table = runs.join(pd.DataFrame(columns))[["arm", "seed", *OUTCOMES]]
    for run in study.diverged:
        _at_last_evaluation(table, study, run)
    return table.reset_index()


def summary(table: pd.DataFrame, outcome: str) -> dict[str, Interval]:
    """The t interval of an outcome over the seeds of each arm, in the table's order of arms."""
    return {str(arm): t_interval(rows[outcome].to_numpy(float)) for arm, rows in table.groupby("arm", sort=False)}


def summary_table(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The same as a tidy table: arm, outcome, mean, low, high, n, sd, median."""
    rows = [
        {"arm": arm, "outcome": name, **vars(interval), **_spread(table, arm, name)}
        for name in names
        for arm, interval in summary(table, name).items()
    ]
    return pd.DataFrame(rows)


def evaluation_curves(evals: pd.DataFrame) -> pd.DataFrame:
    """A row per run and evaluation: accuracy and response tokens, each prompt counting the same."""
    keys = ["run", "arm", "seed", "step"]
    per_prompt = evals.groupby([*keys, "prompt_id"], sort=False)[["correct", "response_tokens"]].mean()
    means = per_prompt.groupby(keys, sort=False).mean().reset_index()
    return means.rename(columns={"correct": "accuracy"}).sort_values(["run", "step"], ignore_index=True)


def final_evaluations(evals: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last evaluations, the one before training never among them unless it is all there is."""
    return _per_run(evals, lambda steps: ([step for step in steps if step > 0] or steps)[-FINAL_EVALUATIONS:])


def accuracy_at_equal_tokens(study: Study) -> pd.Series:
    """Evaluation accuracy of each run where it had generated `token_budget`; not a number if it never did."""
    curves = token_curves(study)
    budget = token_budget(study, curves)
    return pd.Series(
        {
            str(run): float(np.interp(budget, rows["generated_tokens"], rows["evaluation_accuracy"], right=np.nan))
            for run, rows in curves.dropna(subset=["evaluation_accuracy"]).groupby("run")
        },
        dtype=float,
    )


def token_budget(study: Study, curves: pd.DataFrame) -> float:
    """What the most frugal run of the compared arms generated in total; planted controls do not set the budget."""
    arms = [arm.name for arm in study.compared_arms]
    compared = curves[curves["arm"].isin(arms) & ~curves["run"].isin(study.diverged)]
    rows = curves if compared.empty else compared
    return float(rows.groupby("run")["generated_tokens"].max().min())


def token_curves(study: Study) -> pd.DataFrame:
    """A row per run and step: the accuracies of the policy after `step` steps, and the tokens generated until then.

    The line of step s counts its own rollouts too, which the policy of step s has not learned from: so each policy
    stands at the total of the line before.
    """
    lines = study.metrics[["run", "arm", "seed", "step", "rollout/accuracy", "ledger/generated_tokens"]]
    before = lines.assign(step=lines["step"] + 1)[["run", "step", "ledger/generated_tokens"]]
    policies = before.rename(columns={"ledger/generated_tokens": "generated_tokens"})
    start = pd.DataFrame({"run": lines["run"].unique(), "step": 0, "generated_tokens": 0.0})
    curves = pd.concat([start, policies]).merge(lines.drop_duplicates("run")[["run", "arm", "seed"]], on="run")
    rollout = lines[["run", "step", "rollout/accuracy"]].rename(columns={"rollout/accuracy": "rollout_accuracy"})
    evaluation = evaluation_curves(study.evals)[["run", "step", "accuracy"]]
    evaluation = evaluation.rename(columns={"accuracy": "evaluation_accuracy"})
    curves = curves.merge(rollout, on=["run", "step"], how="left").merge(evaluation, on=["run", "step"], how="left")
    return curves.sort_values(["run", "step"], ignore_index=True)


def _at_last_evaluation(table: pd.DataFrame, study: Study, run: str) -> None:
    """Give a diverged run the accuracy of its last evaluation from there on: to leave it out would flatter its arm."""
    curve = evaluation_curves(study.evals[study.evals["run"] == run])
    last = float(curve["accuracy"].iloc[-1])
    recorded = study.metrics.loc[study.metrics["run"] == run, "rollout/accuracy"].dropna()
    planned = max(int(study.configs[run]["run"]["steps"]), len(recorded))
    table.loc[run, ["final_accuracy", "accuracy_at_equal_tokens"]] = last
    table.loc[run, "auc"] = (recorded.sum() + (planned - len(recorded)) * last) / planned


def _evaluation_outcomes(evals: pd.DataFrame) -> dict[str, pd.Series]:
    curves = evaluation_curves(evals)
    last = final_evaluations(evals)
    final = evaluation_curves(last).groupby("run")
    trained = dict(iter(evals[evals["step"] > 0].groupby("run", observed=True)))
    return {
        "length_slope": _by_run(last[~last["truncated"].astype(bool)], lambda rows: length_slope(*grouped(rows))),
        "peak_inflation": _by_run(last, lambda rows: peak_inflation(trained.get(rows["run"].iloc[0], rows), rows)),
        "final_accuracy": final["accuracy"].mean(),
        "final_response_tokens": final["response_tokens"].mean(),
        "start_accuracy": curves[curves["step"] == 0].set_index("run")["accuracy"],
        "peak_accuracy": curves.groupby("run")["accuracy"].max(),
    }


def _by_run(rows: pd.DataFrame, number: Callable[[pd.DataFrame], float]) -> pd.Series:
    """A number from each run's rows."""
    return pd.Series({run: number(of_run) for run, of_run in rows.groupby("run", observed=True)}, dtype=float)


def _ledger_outcomes(metrics: pd.DataFrame) -> dict[str, pd.Series]:
    last = metrics.sort_values("step").groupby("run").tail(1).set_index("run")
    wanted = {
        "generated_tokens": "ledger/generated_tokens",
        "discarded_tokens": "ledger/discarded_tokens",
        "seconds": "time/elapsed_s",
    }
    return {name: last.reindex(columns=[key])[key] for name, key in wanted.items()}


def _per_run(evals: pd.DataFrame, choose: Callable[[list[int]], list[int]]) -> pd.DataFrame:
    steps = evals.groupby("run")["step"].unique()
    chosen = {run: set(choose(sorted(int(step) for step in of_run))) for run, of_run in steps.items()}
    wanted = pd.MultiIndex.from_tuples([(run, step) for run, of_run in chosen.items() for step in of_run])
    return evals[pd.MultiIndex.from_frame(evals[["run", "step"]]).isin(wanted)]


def _spread(table: pd.DataFrame, arm: str, name: str) -> dict[str, float]:
    scores = table.loc[table["arm"] == arm, name]
    return {"sd": float(scores.std(ddof=1)), "median": float(scores.median())}
