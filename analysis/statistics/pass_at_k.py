"""pass@k: the probability that at least one of k answers to a prompt is right, without bias from n >= k answers."""

from math import comb

import numpy as np
import pandas as pd

from analysis.statistics.intervals import t_interval


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k): of n answers c are right (Chen et al. 2021, arXiv 2107.03374). Needs n >= k."""
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"expected 0 <= c <= n and 1 <= k <= n, got n = {n}, c = {c}, k = {k}")
    return 1.0 - comb(n - c, k) / comb(n, k)


def pass_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Mean over prompts and evaluations, then over seeds with a t interval: arm, k, mean, low, high, n (seeds).

    answers: run, arm, seed, step, prompt_id, correct. k: 1, 2, 4, ... up to the fewest answers that a prompt has. The
    first is the mean accuracy (avg@n), whose estimate does not depend on the number of answers.
    """
    groups = answers.groupby(["arm", "seed", "run", "step", "prompt_id"], sort=False, observed=True)["correct"]
    counts = groups.agg(["size", "sum"]).reset_index()
    rows = []
    for k in [2**power for power in range(int(np.log2(counts["size"].min())) + 1)]:
        values = [pass_at_k(int(n), int(c), k) for n, c in zip(counts["size"], counts["sum"], strict=True)]
        seeds = counts.assign(value=values).groupby(["arm", "seed"], sort=False)["value"].mean().reset_index()
        for arm, of_arm in seeds.groupby("arm", sort=False):
            interval = t_interval(of_arm["value"].to_numpy(float))
            rows.append({"arm": arm, "k": k, **vars(interval)})
    return pd.DataFrame(rows, columns=["arm", "k", "mean", "low", "high", "n"])
