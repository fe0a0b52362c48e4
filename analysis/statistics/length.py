"""Accuracy against response length: within prompt, and at every budget of tokens.

The slope within prompts is that of a fixed-effect logit with one covariate, by its exact conditional likelihood.
statsmodels' ConditionalLogit walks each group in Python; here all groups take one step of the recursion together.

Left out on purpose: accuracy pooled by length. It mixes the effect of length with that of the prompt, since hard
prompts have longer answers.
"""

from math import inf, nan

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MOST = 0.5
MOST_STEPS = 50
LARGEST_SLOPE = 30.0
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


def length_slopes(answers: pd.DataFrame) -> pd.Series:
    """By run, the change of the log-odds of being right per unit of log tokens, within (step, prompt)."""
    groups = answers.groupby(["run", "step", "prompt_id"], observed=True)
    row, column = groups.ngroup().to_numpy(), groups.cumcount().to_numpy()
    tokens, correct = np.full((2, groups.ngroups, int(column.max(initial=0)) + 1), nan)
    tokens[row, column] = np.log(np.maximum(answers["response_tokens"].to_numpy(float), 1.0))
    correct[row, column] = answers["correct"].to_numpy(float)
    runs = groups.size().index.get_level_values("run")
    starts = np.flatnonzero(runs[1:] != runs[:-1]) + 1  # a run's rows lie together
    parts = zip(runs.unique(), np.split(tokens, starts), np.split(correct, starts), strict=False)
    return pd.Series({run: conditional_slope(*matrices) for run, *matrices in parts}, dtype=float)


def conditional_slope(covariate: Matrix, correct: Matrix) -> float:
    """The beta of P(y | sum y) = exp(beta sum y x) / sum over subsets S of that size of exp(beta sum_S x).

    A row per group, not a number where a row is shorter. Groups that are all right or all wrong say nothing. Not a
    number where the data separate perfectly or no group says anything (Chamberlain 1980).
    """
    valid = ~np.isnan(covariate)
    successes = np.where(valid, correct, 0.0).sum(axis=1).astype(int)
    informative = (successes > 0) & (successes < valid.sum(axis=1))
    if not informative.any():
        return nan
    x, y, valid = covariate[informative], np.where(valid, correct, 0.0)[informative], valid[informative]
    x = np.where(valid, x - np.nanmean(x, axis=1, keepdims=True), 0.0)
    return _newton(x, y, valid, successes[informative])


def _newton(x: Matrix, y: Matrix, valid: NDArray[np.bool_], successes: NDArray[np.int_]) -> float:
    beta = 0.0
    for _ in range(MOST_STEPS):
        mean, variance = _conditional_moments(beta, x, valid, successes)
        information = float(variance.sum())
        if information < 1e-12 or abs(beta) > LARGEST_SLOPE:
            return nan
        # A Newton step of more than 2 has left the region where the quadratic is a fair picture.
        step = float(np.clip(((x * y).sum(axis=1) - mean).sum() / information, -2.0, 2.0))
        beta += step
        if abs(step) < 1e-10:
            return beta
    return nan


def _conditional_moments(
    beta: float, x: Matrix, valid: NDArray[np.bool_], successes: NDArray[np.int_]
) -> tuple[Matrix, Matrix]:
    """Mean and variance of sum_S x over subsets of the observed size, each weighted by exp(beta sum_S x).

    total[k], first[k], second[k]: the weights of all subsets of size k, and their moments; one more answer either
    stays out or joins a subset of size k - 1.
    """
    groups, answers = x.shape
    total, first, second = (np.zeros((groups, answers + 1)) for _ in range(3))
    total[:, 0] = 1.0
    for j in range(answers):
        w, v = np.where(valid[:, j], np.exp(beta * x[:, j]), 0.0)[:, None], x[:, j][:, None]
        second[:, 1:] += w * (second[:, :-1] + 2 * v * first[:, :-1] + v**2 * total[:, :-1])
        first[:, 1:] += w * (first[:, :-1] + v * total[:, :-1])
        total[:, 1:] += w * total[:, :-1]
    rows = np.arange(groups)
    mean = first[rows, successes] / total[rows, successes]
    return mean, second[rows, successes] / total[rows, successes] - mean**2


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
