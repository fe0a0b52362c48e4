"""FIPO's weights token by token: which responses are shown, and what the weights did by place, sign and time."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.statistics.intervals import t_interval

TIMES, MOST_TIMES = 3, 8
BIN_TOKENS = 6
FEWEST = 20  # tokens in a bin that is shown
KEY = ["step", "prompt_id", "sample"]


def chosen_responses(tokens: pd.DataFrame) -> pd.DataFrame:
    """The tokens of a right and a wrong response at an early, a middle and a late step, of the first run.

    The rule, so that nobody can have picked them: of the arm `fipo`, else the first arm with weights, the run of the
    lowest seed; of its recorded steps that hold a right and a wrong response the first, the middle and the last; there
    the first right and the first wrong response, of one prompt where there is one. Adds `time` and `verdict`.
    """
    if tokens.empty:
        return tokens
    arms = list(dict.fromkeys(tokens["arm"]))
    of_arm = tokens[tokens["arm"] == ("fipo" if "fipo" in arms else arms[0])]
    run = of_arm[of_arm["seed"] == of_arm["seed"].min()]
    pairs = {step: pair for step, rows in run.groupby("step", sort=True) if (pair := _pair(rows)) is not None}
    steps = list(pairs)
    picked = (
        sorted({steps[place] for place in np.linspace(0, len(steps) - 1, TIMES).round().astype(int)}) if steps else []
    )
    parts = [pairs[step].assign(time=time) for time, step in enumerate(picked)]
    return pd.concat(parts, ignore_index=True) if parts else run.iloc[:0].assign(time=0, verdict="")


def by_position(tokens: pd.DataFrame, from_end: bool) -> pd.DataFrame:
    """Mean influence weight by bins of position, over seeds: arm, position, mean, low, high, n (tokens).

    from_end: counted backwards from the response's last token, 0.
    """
    position = tokens["position"]
    if from_end:
        position = tokens.groupby(["run", *KEY])["position"].transform("max") - position
    return over_seeds(tokens.assign(position=position // BIN_TOKENS * BIN_TOKENS), ["position"])


def by_sign(tokens: pd.DataFrame) -> pd.DataFrame:
    """The same by training step, in at most eight bins, and sign of the advantage (1 or -1): arm, sign, step, ..."""
    signed = tokens[tokens["advantage"].notna() & tokens["advantage"].ne(0)]
    width = -(-(int(tokens["step"].max()) + 1) // MOST_TIMES)
    binned = signed["step"] // width * width
    return over_seeds(
        signed.assign(sign=np.sign(signed["advantage"].astype(float)).astype(int), step=binned), ["sign", "step"]
    )


def quantiles_by_sign(tokens: pd.DataFrame) -> pd.DataFrame:
    """The distribution of weights by sign of the advantage, all tokens of an arm: arm, sign, weight, share below it."""
    signed = tokens[tokens["advantage"].notna() & tokens["advantage"].ne(0)]
    rows = []
    for (arm, sign), group in signed.groupby(["arm", np.sign(signed["advantage"].astype(float))], sort=False):
        shares = np.linspace(0.0, 1.0, 101)
        weights = np.quantile(group["influence_weight"].to_numpy(float), shares)
        rows.append(pd.DataFrame({"arm": arm, "sign": int(float(str(sign))), "weight": weights, "share": shares}))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=["arm", "sign", "weight", "share"])


def over_seeds(tokens: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean of each seed's mean influence weight, with its t interval over seeds; groups of few tokens left out."""
    rows = []
    for key, group in tokens.groupby(["arm", *by], sort=False):
        if len(group) >= FEWEST:
            interval = t_interval(group.groupby("seed")["influence_weight"].mean().to_numpy(float))
            row = dict(zip(["arm", *by], key, strict=True))
            rows.append(row | {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": len(group)})
    table = pd.DataFrame(rows, columns=["arm", *by, "mean", "low", "high", "n"])
    return table.sort_values(["arm", *by], ignore_index=True, kind="stable")


def _pair(rows: pd.DataFrame) -> pd.DataFrame | None:
    """A right and a wrong response of one step, of one prompt where there is one; None where one kind is missing."""
    heads = rows.drop_duplicates(["prompt_id", "sample"])
    right, wrong = heads[heads["correct"].eq(True)], heads[heads["correct"].eq(False)]
    if right.empty or wrong.empty:
        return None
    shared = [prompt for prompt in right["prompt_id"] if prompt in set(wrong["prompt_id"])]
    prompt = shared[0] if shared else None
    parts = []
    for verdict, kind in (("right", right), ("wrong", wrong)):
        head = (kind[kind["prompt_id"] == prompt] if prompt is not None else kind).iloc[0]
        same = (rows["prompt_id"] == head["prompt_id"]) & (rows["sample"] == head["sample"])
        parts.append(rows[same].sort_values("position").assign(verdict=verdict))
    both: pd.DataFrame = pd.concat(parts)
    return both
