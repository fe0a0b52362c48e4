import numpy as np
import pandas as pd
from statsmodels.discrete.conditional_models import ConditionalLogit

from analysis.statistics import length
from analysis.statistics.logit import conditional_slope
from tests.analysis.agreement import agree

NAN = float("nan")


def answers(rows: list[tuple[str, int, bool]], seed: int = 0, **more: object) -> pd.DataFrame:
    """(prompt, tokens, correct) of one run's last evaluation."""
    table = pd.DataFrame(rows, columns=["prompt_id", "response_tokens", "correct"])
    sample = table.groupby("prompt_id").cumcount()
    head = {"run": f"a-seed{seed}", "arm": "a", "seed": seed, "step": 2, "sample": sample, "truncated": False}
    return table.assign(**(head | more))


def of_a(table: pd.DataFrame) -> pd.DataFrame:
    """The view within prompts of arm a, by measure."""
    return length.within_prompt(table).set_index("measure")


def test_concordance_by_hand() -> None:
    # p: right 9 against wrong 5 and 9: longer, tie -> (1 + .5) / 2. q: right 3, 8 against wrong 4: .5. r says nothing.
    tokens, correct = length.grouped(
        answers([("p", 9, True), ("p", 5, False), ("p", 9, False)])
        .pipe(lambda p: pd.concat([p, answers([("q", 3, True), ("q", 8, True), ("q", 4, False)])]))
        .pipe(lambda p: pd.concat([p, answers([("r", 3, True), ("r", 8, True)])]))
    )
    assert agree(length.concordance(tokens, correct), [0.75, 0.5, NAN])


def test_within_prompt_by_hand() -> None:
    one = answers([("p", 9, True), ("p", 5, False), ("q", 3, True), ("q", 8, True)], seed=0)
    other = answers([("p", 4, True), ("p", 5, False), ("q", 7, True), ("q", 6, False)], seed=1)
    view = of_a(pd.concat([one, other]))
    assert agree(view.at["concordance", "mean"], (1.0 + 0.5) / 2)
    assert tuple(view.loc["concordance", ["prompts", "informative_share"]]) == (4, 0.75)


def test_truncated_answers_are_not_wrong_and_long() -> None:
    rows = answers([("p", 9, True), ("p", 5, False), ("p", 72, False)])
    rows.loc[2, "truncated"] = True
    view = of_a(rows)
    assert view.at["concordance", "mean"] == 1.0
    assert agree(view.at["concordance", "truncated_share"], 1 / 3)


def test_permutation_p_agrees_with_drawn_permutations() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, 15, (40, 6)).astype(float)
    tokens[::3, 5] = NAN
    correct = np.where(np.isnan(tokens), NAN, (rng.random(tokens.shape) < 0.4 + 0.02 * (np.nan_to_num(tokens) - 10)))
    observed = abs(np.nansum(length.concordance(tokens, correct) - 0.5))
    draws = [abs(np.nansum(length.concordance(tokens, _shuffled(correct, rng)) - 0.5)) for _ in range(500)]
    drawn = float(np.mean(np.array(draws) >= observed))
    # Binomial error of 500 draws: 4 standard errors.
    assert abs(length.permutation_p(tokens, correct) - drawn) < 4 * np.sqrt(drawn * (1 - drawn) / 500) + 0.005


def _shuffled(correct: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.array([[*rng.permutation(row[~np.isnan(row)]), *row[np.isnan(row)]] for row in correct])


def test_permutation_p_of_pure_ties_is_one() -> None:
    assert length.permutation_p(np.full((3, 2), 7.0), np.array([[1.0, 0.0]] * 3)) == 1.0


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


def test_pooled_bins_hide_small_ones_and_set_cut_off_answers_apart() -> None:
    rows = answers([("p", 5, True)] * 30 + [("p", 9, False)] * 30 + [("p", 20, True)] * 5)
    cut = answers([("p", 20, False)] * 25, truncated=True)
    pooled = length.pooled_by_length(pd.concat([rows, cut]), bins=6).set_index("label")
    assert list(pooled.index) == ["5-8", "9-20", "cut off"]
    assert list(pooled["n"]) == [30, 35, 25]
    assert agree(pooled["mean"], [1.0, 5 / 35, 0.0])
    hidden = length.pooled_by_length(rows.head(41), bins=4)
    assert list(hidden["n"]) == [30]
