import numpy as np
import pandas as pd

from analysis.figures.length import stage_fits, stage_summary, stages_of
from tests.analysis.agreement import agree


def answers(steps: int, seed: int = 0) -> pd.DataFrame:
    rows = [
        {
            "run": f"a-seed{seed}",
            "arm": "a",
            "seed": seed,
            "step": step,
            "prompt_id": prompt,
            "correct": step + prompt > 6,
        }
        | {"response_tokens": 10 + step + prompt, "truncated": False}
        for step in range(steps)
        for prompt in (0, 4)
    ]
    return pd.DataFrame(rows)


def test_stages_are_quarters_of_training() -> None:
    points = stages_of(answers(9))
    assert list(points["stage"]) == [1, 1, 2, 2, 3, 3, 4, 4, 4]
    assert agree(points["response_tokens"], 12 + np.arange(9))


def test_a_line_per_seed_and_stage_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    points = pd.DataFrame(
        {"arm": "a", "seed": np.repeat([0, 1], 5), "stage": 1, "response_tokens": rng.normal(30, 3, 10)}
    ).assign(accuracy=rng.random(10))
    fits = stage_fits(points)
    for seed, row in fits.set_index("seed").iterrows():
        group = points[points["seed"] == seed]
        slope, _ = np.polyfit(group["response_tokens"], group["accuracy"], 1)
        r = np.corrcoef(group["response_tokens"], group["accuracy"])[0, 1]
        assert agree([row["slope"], row["r2"]], [slope, r**2])
    summary = stage_summary(fits).iloc[0]
    assert agree(summary["slope"], fits["slope"].mean())
    assert summary["n"] == 2


def test_too_few_points_have_no_line() -> None:
    points = pd.DataFrame({"arm": "a", "seed": 0, "stage": 1, "response_tokens": [1.0, 2.0], "accuracy": [0.1, 0.2]})
    assert np.isnan(stage_fits(points)["slope"]).all()
    assert stage_summary(stage_fits(points)).empty
