from math import log2

import numpy as np
import pandas as pd
import pytest

from analysis.verdict.levels import best_levels, by_value, own_best, trend
from tests.analysis.agreement import agree
from tests.analysis.verdict.made import Made, study_of


def test_no_seed_has_a_say_in_the_level_that_it_is_scored_at() -> None:
    table = pd.DataFrame({1e-4: [0.5, 0.6, 0.6], 2e-4: [0.9, 0.5, 0.5]}, index=[0, 1, 2])
    # scored by the others' choice it gets .5, and moves theirs to 2e-4
    assert best_levels(table) == {0: 1e-4, 1: 2e-4, 2: 2e-4}
    assert own_best(table).to_dict() == {0: 0.5, 1: 0.5, 2: 0.5}


def test_own_best_needs_a_second_seed() -> None:
    assert own_best(pd.DataFrame({1e-4: [0.5]}, index=[0])).empty


def test_a_trend_is_the_change_along_each_seeds_line() -> None:
    table = pd.DataFrame([[0.1, 0.2, 0.3], [0.1, 0.1, 0.5]], columns=[2.0, 4.0, 8.0], index=[4, 7])
    found = trend(table, 2.0, 16.0)
    by_hand = [np.polyfit([1, 2, 3], row, 1)[0] * log2(16 / 2) for row in table.to_numpy()]
    assert agree(found, by_hand)
    assert list(found.index) == [4, 7]


def test_flat_values_have_no_trend_whatever_their_rounding() -> None:
    table = pd.DataFrame(np.repeat([[0.81], [0.83], [0.79]], 5, axis=1), columns=[2.0, 8.0, 32.0, 128.0, 512.0])
    assert list(trend(table, 2.0, 512.0)) == [0.0, 0.0, 0.0]
    assert trend(table[[2.0]], 2.0, 512.0).empty


def test_one_of_two_settings_is_averaged_over_the_other_and_none_is_on_no_line() -> None:
    levels = ((0.1, 2.0), (0.1, 8.0), (0.5, 2.0), (0.5, 8.0), (0.5, "none"))
    block = Made({"dapo": ([0.1], [0.3], [0.5], [0.9], [0.2])}, varied=("clip", "threshold"), levels=levels)
    study, scores = study_of({"grid": block})
    for setting, wanted in (("clip", {0.1: 0.2, 0.5: (0.5 + 0.9 + 0.2) / 3}), ("threshold", {2.0: 0.3, 8.0: 0.6})):
        found = by_value(scores, study.blocks["grid"], "dapo", "auc", setting).iloc[0].to_dict()
        assert found == pytest.approx(wanted)
