from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.figures.search_views import ended_trials, scales, slices, spending, word
from analysis.records.search import Search, read_search
from analysis.verdict.inert import acted
from analysis.verdict.search_best import best_of
from analysis.verdict.search_sentences import best_sentence, unfinished_note
from analysis.verdict.search_trend import trend
from tests.analysis import search_folders
from tests.analysis.agreement import agree
from tests.analysis.search_folders import SearchTruth, grid_truth

NEVER = {"fipo_safety_threshold": 0.0}


def search_with(folder: Path, values: list[float | None], **changes: Any) -> Search:
    """A search over few trials whose values are given; None is a trial that diverged."""
    ends = {("fipo", i): ("infeasible", "diverged") for i, value in enumerate(values) if value is None}
    truth = SearchTruth(trials=len(values), seeds=1, ends=ends | changes.pop("ends", {}), **changes)
    search_folders.write_search(folder, truth)
    table = pd.read_parquet(folder / "trials.parquet")
    given = [table["value"][i] is not None and not pd.isna(table["value"][i]) for i in range(len(values))]
    table["value"] = [value if has else None for value, has in zip(values, given, strict=True)]
    table["values"] = [[value] if has else None for value, has in zip(values, given, strict=True)]
    table.to_parquet(folder / "trials.parquet")
    return read_search(folder)


def test_a_trial_without_a_value_is_spent_and_counts_as_the_untrained_model(tmp_path: Path) -> None:
    curve = spending(search_with(tmp_path, [0.6, None, 0.8]))
    # 0.26 before training: one of 0.26, 0.6, 0.8; two: 0.6, 0.8, 0.8; three: 0.8
    assert agree(curve["mean"], [(0.26 + 0.6 + 0.8) / 3, (0.6 + 0.8 + 0.8) / 3, 0.8])
    assert list(curve["trials"]) == [1, 2, 3]
    assert list(curve["low"]) == [0.26, 0.6, 0.8]


def test_a_value_below_the_start_or_over_a_limit_is_no_better_than_none(tmp_path: Path) -> None:
    curve = spending(search_with(tmp_path, [0.1, 0.9, 0.5], ends={("fipo", 1): ("over", None)}))
    assert agree(curve["mean"], [(0.26 + 0.26 + 0.5) / 3, (0.26 + 0.5 + 0.5) / 3, 0.5])


def test_history_keeps_every_ended_trial_in_its_order(tmp_path: Path) -> None:
    search = search_with(tmp_path, [0.6, None, 0.8, 0.7, 0.9, 0.5], ends={("fipo", 4): ("over", None)})
    rows = ended_trials(search)
    assert list(rows["order"]) == [1, 2, 3, 4, 5, 6]
    assert list(rows["best"]) == [0.6, 0.6, 0.8, 0.8, 0.8, 0.8]
    assert rows.loc[1, ["outcome", "reason"]].tolist() == ["infeasible", "diverged"]


def test_slices_mark_failed_trials_at_their_value(tmp_path: Path) -> None:
    search = search_with(tmp_path, [0.6, None, 0.8])
    rows = slices(search, "fipo")
    lost = rows[rows["outcome"] == "infeasible"]
    assert list(lost["parameter"]) == list(search.searched("fipo"))
    assert agree(lost["x"], search.trials.loc[1, [f"param.{name}" for name in lost["parameter"]]].to_numpy(float))
    assert len(rows) == 3 * 4


def test_axes_are_logarithmic_where_searched_so_or_far_apart(tmp_path: Path) -> None:
    space = {
        "lr": {"kind": "log", "low": 1e-4, "high": 1e-3},
        "epsilon": {"kind": "step", "low": 0.1, "high": 0.9, "step": 0.1},
        "fipo_decay_rate": {"kind": "choice", "values": [2.0, 11.0]},
        "fipo_clip_range": {"kind": "choice", "values": [0.1, 0.5]},
        "fipo_safety_threshold": {"kind": "choice", "values": [0.0, 10.0]},
        "delta": {"kind": "choice", "values": ["none", 10, 5]},
        "fipo_clip_high_only": {"kind": "choice", "values": [True, False]},
    }
    search = read_search(search_folders.write_search(tmp_path, SearchTruth(spaces={"fipo": space})))
    wanted = ["log", "linear", "log", "linear", "linear", "words", "words"]
    assert list(scales(search, "fipo").values()) == wanted
    rows = slices(search, "fipo").drop_duplicates(["parameter", "label"])
    places = rows[rows["parameter"] == "delta"].set_index("label")["x"]
    assert places.to_dict() == {"none": 0.0, "10": 1.0, "5": 2.0}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(True, "true"), ("True", "true"), (None, "none"), (3e-4, "0.0003"), (32.0, "32"), ("5.0", "5")],
)
def test_values_are_named_as_their_flags_take_them(value: object, wanted: str) -> None:
    assert word(value) == wanted


def test_the_best_is_feasible_and_of_equals_the_first(tmp_path: Path) -> None:
    best = best_of(search_with(tmp_path, [0.6, 0.8, 0.9, 0.8], ends={("fipo", 2): ("over", None)}), "fipo")
    assert (best.trial, best.value, best.ended, best.feasible) == (1, 0.8, 4, 3)
    assert best.preset == str(tmp_path / "best/fipo.json")
    assert set(best.parameters) == set(search_folders.SPACE)


def test_a_loss_without_a_feasible_trial_says_so(tmp_path: Path) -> None:
    best = best_of(search_with(tmp_path, [0.6], ends={("fipo", 0): ("over", None)}), "fipo")
    assert best_sentence(best) == "FIPO: none of 1 ended trial has a value within the limits."


def test_open_trials_are_counted(tmp_path: Path) -> None:
    ends = {("fipo", 1): ("running", ""), ("fipo", 2): ("waiting", "")}
    search = read_search(search_folders.write_search(tmp_path, SearchTruth(trials=4, ends=ends)))
    assert unfinished_note(search).startswith("Not finished: 2 trials of FIPO still open")
    fewer = replace(search, trials=search.trials[search.trials["trial"] == 0])
    assert unfinished_note(fewer).startswith("Not finished: 3 trials of FIPO still open")


def grid(folder: Path, **changes: Any) -> Search:
    return read_search(search_folders.write_search(folder, grid_truth(**changes)))


def test_a_rising_grid_has_its_slope_per_doubling(tmp_path: Path) -> None:
    found = trend(grid(tmp_path, noise=1e-5, truth=lambda given: 0.7 + 0.01 * log2(given["fipo_decay_rate"])), "fipo")
    assert found is not None
    assert abs(found.slope - 0.01) < 1e-4
    assert found.word == "a rising trend is supported"
    assert (found.values, found.unit, len(found.seeds)) == ([2, 8, 32, 128, 512], "doubling", 5)
    assert "slope +0.0100" in found.sentence


def test_a_flat_grid_has_no_trend(tmp_path: Path) -> None:
    found = trend(grid(tmp_path), "fipo")
    assert found is not None
    assert found.word.startswith("no trend is supported")
    assert found.p is not None
    assert found.low < 0 < found.high


def test_four_seeds_claim_nothing(tmp_path: Path) -> None:
    found = trend(grid(tmp_path, seeds=4, truth=lambda given: 0.7 + 0.01 * log2(given["fipo_decay_rate"])), "fipo")
    assert found is not None
    assert found.p is found.curvature_p is None
    assert found.word.startswith("insufficient seeds")
    assert ", p " not in found.sentence


def test_what_is_missing_in_a_grid_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "grid"
    search_folders.write_search(folder, grid_truth(ends={("fipo", 4): ("infeasible", "diverged")}))
    table = pd.read_parquet(folder / "trials.parquet")
    table["seeds"] = [seeds[:4] if trial == 1 else seeds for trial, seeds in enumerate(table["seeds"])]
    table["values"] = [values[:4] if trial == 1 else values for trial, values in enumerate(table["values"])]
    table.to_parquet(folder / "trials.parquet")
    found = trend(read_search(folder), "fipo")
    assert found is not None
    assert (found.missing, found.lost_seeds, found.seeds) == ([512.0], [104], [100, 101, 102, 103])
    assert "not in the trend: 512." in found.sentence
    assert "did not finish at every value: 104." in found.sentence


def test_only_a_grid_over_one_number_has_a_trend(tmp_path: Path) -> None:
    assert trend(grid(tmp_path / "a", sampler="random"), "fipo") is None
    words = {"fipo": {"fipo_clip_high_only": {"kind": "choice", "values": [True, False]}}}
    assert trend(grid(tmp_path / "b", spaces=words, trials=2), "fipo") is None
    two = {"fipo": search_folders.GRID["fipo"] | {"lr": {"kind": "choice", "values": [1e-4, 1e-3]}}}
    assert trend(grid(tmp_path / "c", spaces=two), "fipo") is None


def test_a_parameter_that_never_acted_is_inert(tmp_path: Path) -> None:
    truth = SearchTruth(acted=NEVER | {"fipo_clip_range": 0.0009, "fipo_decay_rate": 0.2})
    items = {item.parameter: item for item in acted(read_search(search_folders.write_search(tmp_path, truth)))}
    inert = items["fipo_safety_threshold"]
    assert inert.word == "never acted"
    assert "no negative token's ratio exceeded it in any trial; in this range" in inert.sentence
    assert inert.sentence.endswith("it is inert.")
    assert items["fipo_clip_range"].word == "hardly acted"
    assert "at most 0.09% of the trained tokens" in items["fipo_clip_range"].sentence
    assert (items["fipo_decay_rate"].word, items["fipo_decay_rate"].sentence) == ("acted", "")
    assert (items["lr"].word, items["lr"].trials) == ("not said", 0)
