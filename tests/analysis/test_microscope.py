from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.errors import RecordsError
from analysis.figures.weights import by_position, by_sign, chosen_responses, quantiles_by_sign
from analysis.records.study import read_study
from analysis.records.tokens import read_tokens
from analysis.statistics.intervals import t_interval
from tests.analysis.agreement import agree


@pytest.fixture
def tokens(demo_study: Path) -> pd.DataFrame:
    return read_tokens(read_study(demo_study))


def test_tokens_come_with_what_their_response_was(tokens: pd.DataFrame) -> None:
    assert set(tokens["arm"]) == {"fipo"}  # the only arm with weights
    assert len(tokens) == 5 * 6 * 4 * 8
    assert (tokens["correct"] == (tokens["sample"] < 2)).all()
    assert (tokens["advantage"] == np.where(tokens["correct"], 1.0, -1.0)).all()


def test_responses_are_chosen_by_the_rule_that_the_caption_states(tokens: pd.DataFrame) -> None:
    found = chosen_responses(tokens)
    heads = found.drop_duplicates(["time", "verdict"])
    assert set(heads["run"]) == {"fipo-seed0"}
    assert list(heads["step"]) == [0, 0, 2, 2, 5, 5]
    assert list(heads["verdict"]) == ["right", "wrong"] * 3
    assert list(heads["sample"]) == [0, 2] * 3
    assert heads["prompt_id"].nunique() == 1


def test_a_step_without_a_wrong_response_is_not_chosen(tokens: pd.DataFrame) -> None:
    rest = tokens[~((tokens["step"] == 0) & ~tokens["correct"].astype(bool))]
    assert 0 not in set(chosen_responses(rest)["step"])
    assert chosen_responses(rest[rest["correct"].astype(bool)]).empty


def test_weights_by_position_are_means_over_seeds(tokens: pd.DataFrame) -> None:
    found = by_position(tokens, from_end=False)
    assert list(found["position"]) == [0, 6]
    first = tokens[tokens["position"] < 6].groupby("seed")["influence_weight"].mean()
    wanted = t_interval(first.to_numpy(float))
    assert agree(found.iloc[0][["mean", "low", "high"]].astype(float), [wanted.mean, wanted.low, wanted.high])
    assert found.iloc[0]["n"] == 5 * 6 * 4 * 6
    backwards = by_position(tokens, from_end=True).iloc[1]
    early = tokens[tokens["position"] < 2].groupby("seed")["influence_weight"].mean()
    assert agree(backwards["mean"], early.mean())


def test_weights_by_sign_are_split_by_the_advantage(tokens: pd.DataFrame) -> None:
    found = by_sign(tokens)
    assert set(found["sign"]) == {1, -1}
    positive = tokens[(tokens["step"] == 3) & (tokens["advantage"] > 0)].groupby("seed")["influence_weight"].mean()
    row = found[(found["sign"] == 1) & (found["step"] == 3)].iloc[0]
    assert agree(row["mean"], positive.mean())
    quantiles = quantiles_by_sign(tokens)
    middle = quantiles[(quantiles["sign"] == -1) & (quantiles["share"] == 0.5)]["weight"]
    assert agree(middle, tokens.loc[tokens["advantage"] < 0, "influence_weight"].median())


def test_a_damaged_table_of_tokens_is_named(demo_study: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(demo_study, tmp_path / "study", ignore=shutil.ignore_patterns("report"))
    (tmp_path / "study/runs/fipo-seed1/tokens/step_000002.parquet").write_bytes(b"PAR1")
    with pytest.raises(RecordsError, match=r"fipo-seed1/tokens/step_000002"):
        read_tokens(read_study(tmp_path / "study"))
