"""Accuracy against response length: within prompt, and at every budget of tokens.

Left out on purpose: accuracy pooled by length. It mixes the effect of length with that of the prompt, since hard
prompts have longer answers.
"""

from math import inf

import numpy as np
import pandas as pd

from analysis.statistics.logit import conditional_slope

MOST = 0.5


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
    slopes = {}
    for run, rows in answers.groupby("run", observed=True):
        groups = rows.groupby(["step", "prompt_id"], observed=True)
        placed = rows.assign(row=groups.ngroup(), column=groups.cumcount())
        tables = (placed.pivot(index="row", columns="column", values=name) for name in ("response_tokens", "correct"))
        tokens, correct = (table.to_numpy(float) for table in tables)
        slopes[run] = conditional_slope(np.log(np.maximum(tokens, 1.0)), correct)
    return pd.Series(slopes, dtype=float)


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
