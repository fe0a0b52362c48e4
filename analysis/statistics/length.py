"""Accuracy against response length: within prompt, and at every budget of tokens.

Left out on purpose: accuracy pooled by length. It mixes the effect of length with that of the prompt, since hard
prompts have longer answers.
"""

from math import inf, nan

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.logit import conditional_slope

MOST = 0.5
Matrix = NDArray[np.float64]


def anytime(answers: pd.DataFrame) -> pd.DataFrame:
    """A(B) = mean(correct and response_tokens <= B) of each run for every budget B, from one set of answers.

    Tidy as curves are: run, arm, seed, quantity, x (the budget), value.
    """
    budgets = np.arange(int(answers["response_tokens"].max()) + 1)
    parts = []
    for (run, arm, seed), rows in answers.groupby(["run", "arm", "seed"], sort=False):
        lengths = rows.loc[rows["correct"].astype(bool), "response_tokens"].to_numpy(int)
        value = np.bincount(lengths, minlength=len(budgets)).cumsum() / len(rows)
        head = {"run": run, "arm": arm, "seed": seed, "quantity": "anytime accuracy"}
        parts.append(pd.DataFrame({**head, "x": budgets, "value": value}))
    return pd.concat(parts, ignore_index=True)


def length_slope(tokens: Matrix, correct: Matrix) -> float:
    """The change of the log-odds of being right per unit of log tokens, prompt effects removed; see `grouped`."""
    return conditional_slope(np.log(np.maximum(tokens, 1.0)), correct)


def length_slopes(answers: pd.DataFrame) -> pd.Series:
    """`length_slope` of each run's answers, by run."""
    tokens, correct, runs = grouped(answers)
    starts = np.flatnonzero(runs[1:] != runs[:-1]) + 1  # a run's rows lie together
    parts = zip(dict.fromkeys(runs), np.split(tokens, starts), np.split(correct, starts), strict=False)
    return pd.Series({run: length_slope(*matrices) for run, *matrices in parts}, dtype=float)


def grouped(answers: pd.DataFrame) -> tuple[Matrix, Matrix, NDArray[np.object_]]:
    """Tokens and verdicts as matrices, a row per (run, step, prompt), filled up with not-a-numbers; each row's run."""
    keys = answers.groupby(["run", "step", "prompt_id"], sort=True, observed=True)
    row, column = keys.ngroup().to_numpy(), keys.cumcount().to_numpy()
    shape = (int(row.max()) + 1, int(column.max()) + 1) if len(row) else (0, 0)
    tokens, correct = np.full(shape, nan), np.full(shape, nan)
    tokens[row, column] = answers["response_tokens"].to_numpy(float)
    correct[row, column] = answers["correct"].to_numpy(float)
    runs = np.empty(shape[0], dtype=object)
    runs[row] = answers["run"].to_numpy(object)
    return tokens, correct, runs


def length_ceiling(answers: pd.DataFrame) -> float:
    """Mean tokens of right answers to every prompt, where the prompt determines how long those are; else infinite.

    A right answer's usual length is the commonest one among the right answers to its prompt. Where most of them have
    just that length, no loss can make right answers longer: what is left is to answer more prompts right. answers:
    prompt_id, correct, response_tokens, of all arms that are compared. Prompts that nobody answered right are left out.
    """
    right = answers[answers["correct"].astype(bool)].assign(prompt_id=lambda rows: rows["prompt_id"].astype(object))
    if right.empty:
        return inf
    usual = right.groupby("prompt_id")["response_tokens"].agg(lambda lengths: int(lengths.mode().iloc[0]))
    share = float((right["response_tokens"] == right["prompt_id"].map(usual)).mean())
    return float(usual.mean()) if share > MOST else inf
