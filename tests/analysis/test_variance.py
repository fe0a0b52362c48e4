"""The parts are recovered from answers that were drawn with known ones."""

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.variance import Parts, parts

STARTS, SEEDS, PROMPTS, SAMPLES = 6, 60, 400, 4


def drawn(truth: Parts, rng: np.random.Generator) -> pd.Series:
    """Values by (seed, prompt_id, sample): seed s starts from warm start s mod STARTS."""
    start = rng.normal(0, truth.warm_start**0.5, STARTS)[np.arange(SEEDS) % STARTS]
    seed = rng.normal(0, truth.seed**0.5, SEEDS)
    prompt = rng.normal(0, truth.prompt**0.5, PROMPTS)
    both = rng.normal(0, truth.seed_prompt**0.5, (SEEDS, PROMPTS))
    means = 0.5 + (start + seed)[:, None] + prompt + both
    values = means[..., None] + rng.normal(0, truth.sample**0.5, (SEEDS, PROMPTS, SAMPLES))
    names = ["seed", "prompt_id", "sample"]
    index = pd.MultiIndex.from_product([range(SEEDS), range(PROMPTS), range(SAMPLES)], names=names)
    return pd.Series(values.ravel(), index=index)


def test_the_parts_are_recovered() -> None:
    truth = Parts(warm_start=4e-3, seed=1e-3, prompt=2e-2, seed_prompt=1e-2, sample=0.1)
    found = [parts(drawn(truth, np.random.default_rng(seed)), STARTS) for seed in range(5)]
    for name, tolerance in {"seed": 0.15, "prompt": 0.06, "seed_prompt": 0.06, "sample": 0.02}.items():
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(getattr(truth, name), rel=tolerance)
    assert np.mean([one.warm_start for one in found]) == pytest.approx(truth.warm_start, rel=0.5)  # 6 units of it


def test_a_part_that_is_not_there_is_next_to_nothing() -> None:
    found = parts(drawn(Parts(0.0, 0.0, 0.0, 0.0, 0.1), np.random.default_rng(9)), STARTS)
    assert max(found.warm_start, found.seed, found.prompt, found.seed_prompt) < 1e-3
    assert min(found.warm_start, found.seed, found.prompt, found.seed_prompt) >= 0


def test_prompts_do_not_average_out_over_seeds() -> None:
    of = Parts(0.06, 0.05, 0.04, 0.03, 0.02).of_mean(warm_starts=3, seeds=6, prompts=10, samples=4)
    assert of == {
        "warm_start": pytest.approx(0.02),
        "seed": pytest.approx(0.05 / 6),
        "prompt": pytest.approx(0.004),
        "seed_prompt": pytest.approx(0.0005),
        "sample": pytest.approx(0.02 / 240),
    }
