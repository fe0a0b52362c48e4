from math import nan

import numpy as np
import pandas as pd
import pytest

from analysis.figures.length import stage_fits, stage_summary, stages_of
from analysis.statistics.pass_at_k import pass_at_k, pass_table
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


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 1), (5, 2, 2), (5, 0, 3), (5, 5, 5), (6, 4, 3), (4, 1, 4)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(n: int, c: int, k: int) -> None:
    from itertools import combinations

    subsets = list(combinations([1] * c + [0] * (n - c), k))
    assert agree(pass_at_k(n, c, k), np.mean([max(subset) for subset in subsets]))


def test_pass_at_k_needs_as_many_answers() -> None:
    with pytest.raises(ValueError, match="expected 0 <= c <= n and 1 <= k <= n"):
        pass_at_k(4, 2, 5)


def test_pass_at_one_is_the_accuracy_whatever_the_number_of_answers() -> None:
    few = pd.DataFrame({"prompt_id": list("ppqq"), "correct": [1, 0, 1, 1]})
    many = pd.concat([few, few])
    for table in (few, many):
        found = pass_table(table.assign(run="r", arm="a", seed=0, step=1))
        assert agree(found.loc[found["k"] == 1, "mean"], [0.75])
    assert list(found["k"]) == [1, 2, 4]
    assert agree(found.loc[found["k"] == 4, "mean"], [1.0])
    assert agree(found["low"], [nan] * 3)  # one seed has no interval
