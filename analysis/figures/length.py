"""Mean length and accuracy at each evaluation, and a line through each stage of training."""

from math import nan

import numpy as np
import pandas as pd

from analysis.records.outcomes import evaluation_curves
from analysis.statistics.intervals import t_interval

STAGES = 4  # the FIPO paper's Figure 3f


def stages_of(evals: pd.DataFrame) -> pd.DataFrame:
    """A row per run and evaluation: run, arm, seed, step, stage (1 to 4), response_tokens, accuracy.

    Stages are quarters of the training steps. Every answer counts, those cut off at the limit with its length.
    """
    curves = evaluation_curves(evals)
    last = curves.groupby("run", observed=True)["step"].transform("max").clip(lower=1)
    stage = np.minimum((STAGES * curves["step"] / last).astype(int) + 1, STAGES)
    return curves.assign(stage=stage)[["run", "arm", "seed", "step", "stage", "response_tokens", "accuracy"]]


def stage_fits(points: pd.DataFrame) -> pd.DataFrame:
    """The least-squares line of accuracy on tokens of each run and stage: arm, seed, stage, slope, r2, points.

    slope: change of accuracy per token. Not a number with fewer than three points, or where length did not change.
    """
    rows = []
    for (arm, seed, stage), group in points.groupby(["arm", "seed", "stage"], sort=False, observed=True):
        slope, r2 = _line(group["response_tokens"].to_numpy(float), group["accuracy"].to_numpy(float))
        rows.append({"arm": arm, "seed": seed, "stage": stage, "slope": slope, "r2": r2, "points": len(group)})
    return pd.DataFrame(rows)


def stage_summary(fits: pd.DataFrame) -> pd.DataFrame:
    """Per arm and stage the mean slope with its t interval over seeds, and the mean R2."""
    rows = []
    for (arm, stage), group in fits.dropna().groupby(["arm", "stage"], sort=False, observed=True):
        interval = t_interval(group["slope"].to_numpy(float))
        row = {"arm": arm, "stage": stage, "slope": interval.mean, "low": interval.low, "high": interval.high}
        rows.append(row | {"r2": float(group["r2"].mean()), "n": interval.n})
    return pd.DataFrame(rows, columns=["arm", "stage", "slope", "low", "high", "r2", "n"])


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    if len(x) < 3 or np.ptp(x) == 0:
        return nan, nan
    slope = float(np.cov(x, y)[0, 1] / x.var(ddof=1))
    r2 = float(np.corrcoef(x, y)[0, 1] ** 2) if np.ptp(y) > 0 else nan
    return slope, r2
