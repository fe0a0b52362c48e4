"""How far a peak over several evaluations lies above constant skill by luck alone."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats


def peak_inflation(evaluations: pd.DataFrame, final: pd.DataFrame) -> float:
    """E[max over t of an evaluation's sampling error], were the skill that of the last evaluations all along.

    evaluations, final: the answers of one run at all evaluations after training began, and at the last ones (step,
    prompt_id, correct). An evaluation's error has variance sum_p q_p (1 - q_p) / (K P^2), K answers to each of P
    prompts; q_p (1 - q_p) without bias from the last evaluations. Where accuracy rose on the way, this is more than
    luck gave. Not a number where no prompt has two answers.
    """
    prompts = final.groupby("prompt_id")["correct"].agg(["mean", "count"])
    prompts = prompts[prompts["count"] > 1]
    if prompts.empty:
        return float("nan")
    share, k = prompts["mean"].to_numpy(float), prompts["count"].to_numpy(float)
    variance = float((share * (1 - share) * k / (k - 1)).mean())
    answers = evaluations.groupby("step").size().to_numpy(float)
    return expected_maximum(np.sqrt(variance / answers))


def expected_maximum(deviations: NDArray[np.float64]) -> float:
    """E[max] of independent normals about 0: the integral of 1 - F over x > 0 less that of F over x < 0."""
    largest = float(deviations.max()) if deviations.size else 0.0
    if largest == 0:
        return 0.0
    x = np.linspace(0.0, 9.0 * largest, 4001)
    scaled = x[:, None] / np.maximum(deviations, 1e-300)
    above, below = stats.norm.cdf(scaled).prod(axis=1), stats.norm.cdf(-scaled).prod(axis=1)
    return float(np.trapezoid(1 - above - below, x))
