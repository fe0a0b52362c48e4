"""Two named checkpoints on the same prompts: which of these two is better. About no loss and no other seed.

A test over prompts calls two equal losses different in a third of the studies, since it cannot see that another seed
would have given another checkpoint: so it stands here, by itself, and in no report.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.errors import RecordsError
from analysis.formatting import bracket, p_value, signed
from analysis.statistics.intervals import Difference, paired_t

DRAWS, SEED = 20_000, 0


@dataclass(frozen=True)
class Checkpoints:
    """The mean difference of two checkpoints over `prompts` prompts, its t interval and p, and the p of sign flips."""

    first: str
    second: str
    step: int
    prompts: int
    difference: Difference
    p_sign_flip: float

    @property
    def sentence(self) -> str:
        """The answer, labelled as what it is."""
        found = self.difference
        return (
            f"These two checkpoints alone, after {self.step} steps, on {self.prompts} prompts: {self.first} - "
            f"{self.second} {signed(found.difference)} {bracket(found.low, found.high)} (95 %, over prompts), p "
            f"{p_value(found.p)}, by sign flips {p_value(self.p_sign_flip)}. The unit is the prompt, so this says "
            "nothing about their losses: another seed would have given other checkpoints."
        )


def compare_checkpoints(evals: pd.DataFrame, first: str, second: str) -> Checkpoints:
    """The comparison of two runs at the last evaluation that both have. evals: run, step, prompt_id, correct.

    Raises RecordsError unless both answered the same prompts there.
    """
    steps = [set(evals.loc[evals["run"] == run, "step"]) for run in (first, second)]
    if not (shared := steps[0] & steps[1]):
        raise RecordsError(f"expected an evaluation after the same step in {first} and {second}, got none: train on")
    step = max(shared)
    a, b = (_by_prompt(evals, run, step) for run in (first, second))
    if set(a.index) != set(b.index):
        raise RecordsError(f"expected the same prompts in {first} and {second}, got others: evaluate both alike")
    differences = (a - b[a.index]).to_numpy(float)
    found = paired_t(differences, np.zeros_like(differences))
    return Checkpoints(first, second, int(step), len(differences), found, sign_flip_p(differences))


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the mean under random signs of the prompts' differences, from 20,000 fixed draws."""
    rng = np.random.default_rng(SEED)
    observed, count = abs(differences.sum()) - 1e-12, 0
    for _ in range(DRAWS // 1000):
        signs = rng.integers(0, 2, size=(1000, differences.size)) * 2 - 1
        count += int((np.abs(signs @ differences) >= observed).sum())
    return (count + 1) / (DRAWS + 1)


def _by_prompt(evals: pd.DataFrame, run: str, step: int) -> pd.Series:
    rows = evals[(evals["run"] == run) & (evals["step"] == step)]
    return rows.groupby("prompt_id", observed=True)["correct"].mean()
