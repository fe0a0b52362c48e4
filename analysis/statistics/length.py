"""Accuracy against response length, seen three ways: pooled (confounded), within prompt, and at every budget.

A pooled curve mixes the effect of length with that of the prompt: hard prompts have longer answers. Truncated answers
are their own category throughout, never silently "wrong and long".
"""

from math import inf, nan, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.intervals import Interval, t_interval
from analysis.statistics.logit import conditional_slope

BINS = 6
SMALLEST_BIN = 20
MOST = 0.5
Matrix = NDArray[np.float64]


def pooled_by_length(answers: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Share correct per arm and quantile bin of length, the bins shared by all arms, truncated answers last.

    A row per arm and bin: arm, bin, label, mean, low, high (t over seeds), n. Bins with n < 20 are left out.
    """
    edges = _quantile_edges(answers.loc[~answers["truncated"], "response_tokens"].to_numpy(int), bins)
    place = np.searchsorted(edges[1:-1], answers["response_tokens"].to_numpy(), side="right")
    place = np.where(answers["truncated"], len(edges) - 1, place)
    rows = []
    for (arm, where), group in answers.assign(bin=place).groupby(["arm", "bin"], sort=True):
        index = int(str(where))
        if len(group) >= SMALLEST_BIN:
            shares = group.groupby("seed")["correct"].mean().to_numpy(float)
            interval = t_interval(shares) if len(shares) else Interval(nan, nan, nan, 0)
            row = {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": len(group)}
            rows.append({"arm": arm, "bin": index, "label": _label(edges, index)} | row)
    return pd.DataFrame(rows, columns=["arm", "bin", "label", "mean", "low", "high", "n"])


def within_prompt(answers: pd.DataFrame) -> pd.DataFrame:
    """What prompts that hold right and wrong answers of one policy (run and evaluation) say about length, by arm.

    A row per arm and measure: arm, measure, mean, low, high, n (t over seeds), p, informative_share, truncated_share,
    prompts. concordance: P(the right answer is the longer one | same prompt, seed, policy), ties a half; its p is of
    the permutation of the verdicts inside each prompt, about these policies, not about other seeds. slope: the change
    of the log-odds of being right per unit of log tokens, prompt effects removed; without a p.
    """
    return pd.DataFrame([row for arm, rows in answers.groupby("arm", sort=False) for row in _of_arm(str(arm), rows)])


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


def concordance(tokens: Matrix, correct: Matrix) -> Matrix:
    """Per group, the share of (right, wrong) pairs whose right answer is longer; not a number without such a pair.

    A row per group; both are not a number where a row is shorter.
    """
    longer = (tokens[:, :, None] > tokens[:, None, :]) + 0.5 * (tokens[:, :, None] == tokens[:, None, :])
    pairs = (correct[:, :, None] == 1) & (correct[:, None, :] == 0)
    counts = pairs.sum(axis=(1, 2))
    return np.where(counts > 0, (longer * pairs).sum(axis=(1, 2)) / np.maximum(counts, 1), nan)


def permutation_p(tokens: Matrix, correct: Matrix) -> float:
    """Two-sided p of the mean concordance under permutation of the verdicts inside each group.

    By the exact mean 1/2 and variance sum (r - mean r)^2 / (N (N - 1) n_right n_wrong) of each group, r the ranks with
    ties averaged (van Elteren 1960), and a normal tail for their sum: no random draws, so no Monte Carlo error.
    """
    observed = concordance(tokens, correct)
    groups = ~np.isnan(observed)
    if not groups.any():
        return nan
    ranks = stats.rankdata(tokens[groups], axis=1, nan_policy="omit")
    size, right = (~np.isnan(tokens[groups])).sum(axis=1), np.nansum(correct[groups], axis=1)
    squares = np.nansum((ranks - np.nanmean(ranks, axis=1, keepdims=True)) ** 2, axis=1)
    variance = float((squares / (size * (size - 1) * right * (size - right))).sum())
    deviation = abs(float((observed[groups] - 0.5).sum()))
    return 1.0 if variance == 0 else float(2 * stats.norm.sf(deviation / sqrt(variance)))


def length_slope(tokens: Matrix, correct: Matrix) -> float:
    """The change of the log-odds of being right per unit of log tokens, prompt effects removed; see `grouped`."""
    return conditional_slope(np.log(np.maximum(tokens, 1.0)), correct)


def grouped(answers: pd.DataFrame) -> tuple[Matrix, Matrix]:
    """Tokens and verdicts as matrices, a row per (run, step, prompt), filled up with not-a-numbers."""
    keys = answers.groupby(["run", "step", "prompt_id"], sort=True)
    row, column = keys.ngroup().to_numpy(), keys.cumcount().to_numpy()
    shape = (int(row.max()) + 1, int(column.max()) + 1) if len(row) else (0, 0)
    tokens, correct = np.full(shape, nan), np.full(shape, nan)
    tokens[row, column] = answers["response_tokens"].to_numpy(float)
    correct[row, column] = answers["correct"].to_numpy(float)
    return tokens, correct


def _of_arm(arm: str, answers: pd.DataFrame) -> list[dict[str, object]]:
    complete = answers[~answers["truncated"]]
    concordances, slopes = [], []
    for _, rows in complete.groupby("seed", sort=True):
        tokens, correct = grouped(rows)
        per_group = concordance(tokens, correct)
        if not np.isnan(per_group).all():
            concordances.append(float(np.nanmean(per_group)))
            slopes.append(length_slope(tokens, correct))
    tokens, correct = grouped(complete)
    prompts = answers.groupby(["run", "step", "prompt_id"]).ngroups
    shares = {
        "informative_share": float((~np.isnan(concordance(tokens, correct))).sum() / prompts),
        "truncated_share": float(answers["truncated"].mean()),
        "prompts": prompts,
    }
    measures = {
        "concordance": (t_interval(concordances), permutation_p(tokens, correct)),
        "slope": (t_interval([slope for slope in slopes if not np.isnan(slope)]), nan),
    }
    return [
        {"arm": arm, "measure": name, **vars(interval), "p": p, **shares} for name, (interval, p) in measures.items()
    ]


def _quantile_edges(lengths: NDArray[np.int_], bins: int) -> NDArray[np.int_]:
    """First lengths of the bins, and one past the longest: quantiles, each length wholly in one bin."""
    if not len(lengths):
        return np.array([0, 1])
    cuts = np.quantile(lengths, np.arange(1, bins) / bins, method="higher")
    inner = np.unique(cuts[cuts > lengths.min()])
    return np.concatenate([[lengths.min()], inner, [lengths.max() + 1]]).astype(int)


def _label(edges: NDArray[np.int_], index: int) -> str:
    if index == len(edges) - 1:
        return "cut off"
    low, high = int(edges[index]), int(edges[index + 1]) - 1
    return str(low) if low == high else f"{low}-{high}"


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
