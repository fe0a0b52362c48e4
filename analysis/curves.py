"""Curves over training: what every seed did at each x, and the mean with its t interval over seeds."""

import numpy as np
import pandas as pd
from scipy import stats

from analysis.outcomes import evaluation_curves, token_curves
from analysis.records import Study

LEARNING = (
    "rollout/accuracy",
    "evaluation/accuracy",
    "rollout/response_tokens_mean",
    "rollout/entropy",
    "loss/influence_weight",
)
DYNAMICS = (
    "loss/kl_to_old",
    "optimizer/grad_norm",
    "rollout/informative_groups_share",
    "loss/clip_fraction_low",
    "loss/clip_fraction_high",
    "loss/clip_fraction_dual",
    "rollout/sampling_rounds",
    "rollout/truncated_share",
)
GRID_POINTS = 61


def seed_curves(study: Study, quantities: tuple[str, ...]) -> pd.DataFrame:
    """A row per run, quantity and step that was recorded: run, arm, seed, quantity, x, value; x is the step."""
    keys = ["run", "arm", "seed", "step"]
    present = [name for name in quantities if name in study.metrics]
    long = study.metrics.melt(id_vars=keys, value_vars=present, var_name="quantity", value_name="value")
    if "evaluation/accuracy" in quantities:
        evaluated = evaluation_curves(study.evals).rename(columns={"accuracy": "value"})
        long = pd.concat([long, evaluated[[*keys, "value"]].assign(quantity="evaluation/accuracy")])
    long["value"] = pd.to_numeric(long["value"])
    long = long.dropna(subset=["value"]).rename(columns={"step": "x"})
    return _ordered(long, study)


def seed_token_curves(study: Study) -> pd.DataFrame:
    """The same with x the tokens generated until then, for rollout and evaluation accuracy."""
    curves = token_curves(study).rename(columns={"generated_tokens": "x"})
    names = {"rollout_accuracy": "rollout/accuracy", "evaluation_accuracy": "evaluation/accuracy"}
    long = curves.melt(
        id_vars=["run", "arm", "seed", "x"], value_vars=list(names), var_name="quantity", value_name="value"
    )
    return _ordered(long.replace({"quantity": names}).dropna(subset=["value"]), study)


def bands(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % t interval over seeds at each x: arm, quantity, x, mean, low, high, n."""
    groups = curves.groupby(["arm", "quantity", "x"], sort=False)["value"]
    table = groups.agg(["mean", "std", "count"]).reset_index()
    n = table["count"].to_numpy(float)
    half = stats.t.ppf(0.975, np.where(n > 1, n - 1, np.nan)) * table["std"].to_numpy(float) / np.sqrt(n)
    table = table.assign(low=table["mean"] - half, high=table["mean"] + half, n=table["count"])
    return table[["arm", "quantity", "x", "mean", "low", "high", "n"]]


def on_common_grid(curves: pd.DataFrame) -> pd.DataFrame:
    """Each run's curve read off at the same x, up to where the arm's shortest run ends: bands need a shared x."""
    parts = []
    for _, of_arm in curves.groupby(["arm", "quantity"], sort=False):
        by_run = [rows for _, rows in of_arm.groupby("run", sort=False)]
        grid = np.linspace(0.0, min(rows["x"].max() for rows in by_run), GRID_POINTS)
        for rows in by_run:
            head = rows.iloc[[0] * len(grid)][["run", "arm", "seed", "quantity"]].reset_index(drop=True)
            parts.append(head.assign(x=grid, value=np.interp(grid, rows["x"], rows["value"])))
    return pd.concat(parts, ignore_index=True)


def _ordered(long: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Rows in the study's order of arms, then by seed and x, whatever order the folders were found in."""
    place = {arm.name: index for index, arm in enumerate(study.arms)}
    long = long.assign(place=long["arm"].map(place)).sort_values(["quantity", "place", "seed", "run", "x"])
    return long[["run", "arm", "seed", "quantity", "x", "value"]].reset_index(drop=True)
