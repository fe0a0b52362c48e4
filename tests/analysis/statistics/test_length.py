import numpy as np
import pandas as pd
from statsmodels.discrete.conditional_models import ConditionalLogit

from analysis.statistics import length
from analysis.statistics.length import conditional_slope
from tests.analysis.agreement import agree

NAN = float("nan")


def answers(rows: list[tuple[str, int, bool]], seed: int = 0, **more: object) -> pd.DataFrame:
    """(prompt, tokens, correct) of one run's last evaluation."""
    table = pd.DataFrame(rows, columns=["prompt_id", "response_tokens", "correct"])
    sample = table.groupby("prompt_id").cumcount()
    head = {"run": f"a-seed{seed}", "arm": "a", "seed": seed, "step": 2, "sample": sample, "truncated": False}
    return table.assign(**(head | more))


def test_conditional_slope_is_where_statsmodels_score_is_zero() -> None:
    """Not where its optimizer stops: that is 5e-5 away, at a score of 1e-3."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 5))
    y = (rng.random((60, 5)) < 1 / (1 + np.exp(-(1.3 * x + rng.normal(size=(60, 1)))))).astype(float)
    x[::4, 4] = y[::4, 4] = NAN
    rows = ~np.isnan(x)
    groups = np.repeat(np.arange(60), 5).reshape(60, 5)[rows]
    varied = np.isin(groups, [g for g in range(60) if 0 < np.nansum(y[g]) < rows[g].sum()])
    theirs = ConditionalLogit(y[rows][varied], x[rows][varied][:, None], groups=groups[varied])
    assert agree(theirs.score(np.array([conditional_slope(x, y)])), [0.0])


def test_conditional_slope_of_two_answers_by_hand() -> None:
    # One right and one wrong each, x apart by 1: right is the larger in 3 of 4 groups -> log(3 / 1).
    x, y = np.array([[1.0, 0.0]] * 4), np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    assert agree(conditional_slope(x, y), np.log(3))


def test_conditional_slope_is_silent_where_the_data_are() -> None:
    assert np.isnan(conditional_slope(np.array([[1.0, 0.0]] * 4), np.array([[1.0, 0.0]] * 4)))  # separated
    assert np.isnan(conditional_slope(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])))  # all right


def test_anytime_by_hand() -> None:
    rows = answers([("p", 1, True), ("p", 3, False), ("q", 3, True), ("q", 4, True)])
    curve = length.anytime(rows)
    assert list(curve["x"]) == [0, 1, 2, 3, 4]
    assert agree(curve["value"], [0, 0.25, 0.25, 0.5, 0.75])


def test_the_slope_is_within_runs_evaluations_and_prompts() -> None:
    # In each of three groups one right answer, e times as long as the wrong one in two of them -> log(2 / 1).
    rows = [("p", 1, False), ("p", 3, True), ("q", 1, False), ("q", 3, True), ("r", 3, False), ("r", 1, True)]
    table = pd.concat(
        [answers(rows), answers(rows[:4] + [(prompt, 4 - n, yes) for prompt, n, yes in rows[4:]], seed=1)]
    )
    slopes = length.length_slopes(table)
    assert agree(slopes.iloc[0], np.log(2) / np.log(3.0))
    assert np.isnan(slopes.iloc[1])  # every longer answer is right: the data separate
    assert slopes.index.nunique() == 2
