"""Where the variance of an evaluation comes from: warm start, training seed, evaluation prompts and samples.

By moments, in the balanced layout of a study: seeds within warm starts, every run asked the same prompts, each several
times. What prompts add to all runs alike drops out of a difference of runs; what is left of it is `seed_prompt`.
"""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.records.blocks import BlockStudy
from analysis.records.outcomes import final_evaluations

PARTS = ("warm_start", "seed", "prompt", "seed_prompt", "sample")


@dataclass(frozen=True)
class Parts:
    """Variance components of one answer (0 to 1), or of a paired difference of two.

    warm_start, seed: of a run's true score. prompt: of a prompt's mean over runs. seed_prompt: of a prompt in a run,
    beyond both. sample: of one answer to a prompt by one model. A component that came out below 0 is 0.
    """

    warm_start: float
    seed: float
    prompt: float
    seed_prompt: float
    sample: float

    def of_mean(self, warm_starts: int, seeds: int, prompts: int, samples: int) -> dict[str, float]:
        """What each adds to the variance of the mean over so many of each; `seeds` are those of all warm starts."""
        return {
            "warm_start": self.warm_start / warm_starts,
            "seed": self.seed / seeds,
            "prompt": self.prompt / prompts,
            "seed_prompt": self.seed_prompt / (seeds * prompts),
            "sample": self.sample / (seeds * prompts * samples),
        }


@dataclass(frozen=True)
class Variance:
    """The parts of an arm's accuracy at its last evaluation, and of the difference of two arms there.

    seeds, prompts, answers: how many they were split from.
    auc: the two parts of the difference in AUC, for which there are no evaluation prompts.
    """

    arms: tuple[str, str]
    single: Parts
    difference: Parts
    auc: Parts
    seeds: int
    prompts: int
    answers: int

    def as_json(self) -> dict[str, Any]:
        """For `sweeps plan`."""
        return asdict(self)


def variance(found: BlockStudy, block: str, arm: str, baseline: str) -> Variance | None:
    """The parts from the last evaluation of a block's two arms; None with fewer than two seeds of two warm starts."""
    runs = {name: found.of(block, name).set_index("seed")["run"] for name in (arm, baseline)}
    seeds = runs[arm].index.intersection(runs[baseline].index)
    if len(seeds) < 4 or len(set(seeds % found.warm_starts)) < 2:
        return None
    answers = {name: _answers(found, runs[name].loc[seeds]) for name in runs}
    difference = (answers[arm] - answers[baseline]).dropna()
    auc = (found.of(block, arm).set_index("seed")["auc"] - found.of(block, baseline).set_index("seed")["auc"]).loc[
        seeds
    ]
    within, between = _nested(auc, found.warm_starts)
    return Variance(
        arms=(arm, baseline),
        single=parts(answers[baseline], found.warm_starts),
        difference=parts(difference, found.warm_starts),
        auc=Parts(between, within, 0.0, 0.0, 0.0),
        seeds=len(seeds),
        prompts=difference.index.get_level_values("prompt_id").nunique(),
        answers=difference.index.get_level_values("sample").nunique(),
    )


def parts(answers: pd.Series, warm_starts: int) -> Parts:
    """The components of values by (seed, prompt_id, sample); seed s starts from warm start s mod `warm_starts`."""
    by_prompt = answers.groupby(level=["seed", "prompt_id"])
    samples = float(by_prompt.size().mean())
    sample = float(by_prompt.var(ddof=1).mean()) if samples > 1 else 0.0
    table = by_prompt.mean().unstack("prompt_id").dropna(axis=1)
    runs, prompts = table.shape
    values = table.to_numpy(float)
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    mixed = float((rest**2).sum()) / ((runs - 1) * (prompts - 1))
    prompt = float(values.mean(axis=0).var(ddof=1)) - mixed / runs
    within, between = _nested(table.mean(axis=1), warm_starts)
    found = (between, within - mixed / prompts, prompt, mixed - sample / samples, sample)
    return Parts(*(max(0.0, value) for value in found))


def _nested(scores: pd.Series, warm_starts: int) -> tuple[float, float]:
    """The variance of scores by seed within warm starts, and that of the warm starts' own means, not below 0."""
    groups = scores.groupby(scores.index.to_numpy() % warm_starts)
    freedom = len(scores) - groups.ngroups
    within = float(((scores - groups.transform("mean")) ** 2).sum()) / freedom
    each = float((1 / groups.size()).mean())
    return within, max(0.0, float(groups.mean().var(ddof=1)) - within * each)


def _answers(found: BlockStudy, runs: pd.Series) -> pd.Series:
    """1 or 0 by (seed, prompt_id, sample) at the runs' last evaluation."""
    evals = found.study.evals
    rows = final_evaluations(evals[evals["run"].isin(set(runs))])
    last = rows[rows["step"] == rows.groupby("run", observed=True)["step"].transform("max")]
    return last.set_index(["seed", "prompt_id", "sample"])["correct"].astype(float).sort_index()
