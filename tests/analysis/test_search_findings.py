from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.search_views import ended_trials, scales, slices, spending
from analysis.records.search import Search, read_search
from tests.analysis import search_folders
from tests.analysis.agreement import agree
from tests.analysis.search_folders import SearchTruth

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
