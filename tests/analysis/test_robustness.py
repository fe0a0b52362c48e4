import pandas as pd
import pytest

from analysis.verdict.robustness import best_levels, own_best, ranges, rate_range

LEVELS = [1e-4, 2e-4, 4e-4, 8e-4]


def test_a_flat_score_is_held_over_the_whole_grid() -> None:
    assert rate_range(LEVELS, [0.8, 0.8, 0.8, 0.8]) == pytest.approx(3.0)


def test_the_range_ends_where_the_line_between_two_rates_leaves_it() -> None:
    # from .80 at 2e-4 the line falls to .72 at 4e-4: it is .02 lower after a quarter of the doubling
    assert rate_range(LEVELS, [0.0, 0.80, 0.72, 0.1]) == pytest.approx(0.25 + 0.02 / 0.8)


def test_stretches_that_are_apart_all_count() -> None:
    assert rate_range(LEVELS, [0.8, 0.7, 0.7, 0.8]) == pytest.approx(0.2 + 0.2)
    assert rate_range([1.0, 2.0, 4.0], [0.8, 0.5, 0.8], within=0.3) == pytest.approx(2.0)


def test_a_collapse_beside_the_best_rate_leaves_next_to_nothing() -> None:
    assert rate_range(LEVELS, [0.2, 0.9, 0.2, 0.2]) == pytest.approx(2 * 0.02 / 0.7)


def test_no_seed_has_a_say_in_the_rate_that_it_is_scored_at() -> None:
    table = pd.DataFrame({1e-4: [0.5, 0.6, 0.6], 2e-4: [0.9, 0.5, 0.5]}, index=[0, 1, 2])
    # the first seed alone likes 2e-4: scored by the others' choice it gets .5, and moves theirs to 2e-4
    assert best_levels(table) == {0: 1e-4, 1: 2e-4, 2: 2e-4}
    assert own_best(table).to_dict() == {0: 0.5, 1: 0.5, 2: 0.5}


def test_own_best_needs_a_second_seed() -> None:
    assert own_best(pd.DataFrame({1e-4: [0.5]}, index=[0])).empty


def test_ranges_are_by_seed() -> None:
    table = pd.DataFrame([[0.8, 0.8], [0.8, 0.4]], index=[4, 7], columns=[1.0, 2.0])
    assert ranges(table).to_dict() == {4: pytest.approx(1.0), 7: pytest.approx(0.05)}
