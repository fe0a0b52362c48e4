"""Curves over training: what every seed did at each x, and the mean with its t interval over seeds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

from analysis.records.study import Study, evaluation_curves

# What a policy had cost when it was reached, by the axis it may be drawn on; steps need no column.
AXES = {
    "steps": None,
    "prompts": "ledger/prompts",
    "generated_tokens": "ledger/generated_tokens",
    "seconds": "time/elapsed_s",
    "flops": "ledger/flops",
}
GRID_POINTS = 61


def seed_curves(study: Study, quantities: Sequence[str], axis: str = "steps") -> pd.DataFrame:
    """A row per run, quantity and step that was recorded: run, arm, seed, quantity, x, value.

    quantities: keys of metrics.jsonl, evaluation/accuracy, or `evaluation/accuracy: NAME` of one benchmark alone. x:
    training steps, or what had been spent of another of AXES when the policy was reached.
    """
    keys = ["run", "arm", "seed", "step"]
    present = [name for name in quantities if name in study.metrics]
    long = study.metrics.melt(id_vars=keys, value_vars=present, var_name="quantity", value_name="value")
    for name in quantities:
        quantity, _, benchmark = name.partition(": ")
        if quantity == "evaluation/accuracy":
            evaluated = evaluation_curves(answers_to(study, benchmark)) if benchmark else study.evaluated
            values = evaluated.rename(columns={"accuracy": "value"})[[*keys, "value"]]
            long = pd.concat([long, values.assign(quantity=name)])
    long["value"] = pd.to_numeric(long["value"])
    long = long.dropna(subset=["value"])
    long = long.assign(x=long["step"]) if AXES[axis] is None else long.merge(spent(study, axis), on=["run", "step"])
    ordered = in_order(long, study, ["seed", "run", "x"]).sort_values("quantity", kind="stable", ignore_index=True)
    return ordered[["run", "arm", "seed", "quantity", "x", "value"]]


def answers_to(study: Study, suite: str) -> pd.DataFrame:
    """The answers to the problems of a benchmark, named as the runs' records name it."""
    prompts = {prompt for of_run in study.suites.values() for prompt in of_run.get(suite, ())}
    return study.evals[study.evals["prompt_id"].isin(prompts)]


def spent(study: Study, axis: str) -> pd.DataFrame:
    """What each run had spent when it reached the policy of each step: run, step, x.

    The line of step s counts its own rollouts too, which the policy of step s has not learned from: so each policy
    stands at the total of the line before. Empty where the runs did not record it.
    """
    column = AXES[axis]
    if column not in study.metrics:
        return pd.DataFrame({"run": pd.Series(dtype=object), "step": pd.Series(dtype=int), "x": pd.Series(dtype=float)})
    known = study.metrics[["run", "step", column]].dropna().rename(columns={str(column): "x"})
    start = pd.DataFrame({"run": known["run"].unique(), "step": 0, "x": 0.0})
    return pd.concat([start, known.assign(step=known["step"] + 1)], ignore_index=True)


def mean_curves(curves: pd.DataFrame, axis: str = "steps") -> pd.DataFrame:
    """`bands` of the curves; where the runs of an arm were not recorded at the same x, on a grid of its own."""
    return bands(curves if axis == "steps" or curves.empty else on_common_grid(curves))


def bands(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % t interval over seeds at each x: arm, quantity, x, mean, low, high, n."""
    groups = curves.groupby(["arm", "quantity", "x"], sort=False, observed=True)["value"]
    table = groups.agg(["mean", "std", "count"]).reset_index()
    n = table["count"].to_numpy(float)
    half = special.stdtrit(np.where(n > 1, n - 1, np.nan), 0.975) * table["std"].to_numpy(float) / np.sqrt(n)
    table = table.assign(low=table["mean"] - half, high=table["mean"] + half, n=table["count"])
    return table[["arm", "quantity", "x", "mean", "low", "high", "n"]]


def on_common_grid(curves: pd.DataFrame) -> pd.DataFrame:
    """Each run's curve read off at the same x, up to where the arm's shortest run ends: bands need a shared x."""
    parts = []
    for (arm, quantity), of_arm in curves.groupby(["arm", "quantity"], sort=False, observed=True):
        by_run = dict(iter(of_arm.groupby("run", sort=False, observed=True)))
        grid = np.linspace(0.0, min(rows["x"].max() for rows in by_run.values()), GRID_POINTS)
        values = [np.interp(grid, rows["x"], rows["value"]) for rows in by_run.values()]
        runs = np.array(list(by_run), dtype=object)
        seeds = [int(rows["seed"].iloc[0]) for rows in by_run.values()]
        named = {"run": np.repeat(runs, len(grid)), "arm": arm, "seed": np.repeat(seeds, len(grid))}
        read = {"quantity": quantity, "x": np.tile(grid, len(runs)), "value": np.concatenate(values)}
        parts.append(pd.DataFrame(named | read))
    return pd.concat(parts, ignore_index=True)


def in_order(rows: pd.DataFrame, study: Study, by: list[str]) -> pd.DataFrame:
    """Rows in the study's order of arms, then by these columns, whatever order the folders were found in."""
    place = {arm.name: index for index, arm in enumerate(study.arms)}
    ordered = rows.assign(place=rows["arm"].map(place)).sort_values(["place", *by], ignore_index=True)
    return ordered.drop(columns="place")
