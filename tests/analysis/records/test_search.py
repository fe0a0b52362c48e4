import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.errors import RecordsError
from analysis.records.search import is_search, read_search, word
from tests.analysis import search_folders
from tests.analysis.search_folders import SearchTruth

ENDS = {
    ("fipo", 1): ("infeasible", "loss is not finite at step 7"),
    ("fipo", 3): ("failed", "killed three times"),
    ("fipo", 4): ("over", ""),
    ("fipo", 6): ("running", ""),
    ("fipo", 7): ("waiting", ""),
}


@pytest.fixture
def search(tmp_path: Path) -> Path:
    return search_folders.write_search(tmp_path / "search", SearchTruth(trials=8, ends=ENDS))


def test_every_trial_is_there_whatever_became_of_it(search: Path) -> None:
    records = read_search(search)
    outcomes = list(records.trials["outcome"])
    kept = "feasible"
    assert outcomes == [kept, "infeasible", kept, "failed", "over a limit", kept, "running", "waiting"]
    assert records.trials["values"].map(len).tolist() == [2, 0, 2, 0, 2, 2, 0, 0]
    assert records.losses == ["fipo"]
    assert set(records.environments["run"]) >= {"fipo-trial0000-seed100"}


def test_trials_come_in_the_order_of_losses_and_numbers_and_fixed_parameters_are_not_searched(tmp_path: Path) -> None:
    spaces = search_folders.SPACES | {
        "grpo": {"lr": search_folders.SPACE["lr"], "delta": {"kind": "fixed", "value": 10}}
    }
    truth = SearchTruth(losses=("grpo", "dapo"), trials=3, spaces=spaces)
    folder = search_folders.write_search(tmp_path / "s", truth)
    pd.read_parquet(folder / "trials.parquet").iloc[::-1].to_parquet(folder / "trials.parquet")
    records = read_search(folder)
    named = list(records.trials["loss"] + records.trials["trial"].astype(str))
    assert named == ["grpo0", "grpo1", "grpo2", "dapo0", "dapo1", "dapo2"]
    assert list(records.searched("grpo")) == ["lr"]


def test_only_a_study_of_that_kind_is_a_search(search: Path, tmp_path: Path) -> None:
    assert is_search(search)
    assert not is_search(tmp_path / "nowhere")
    description = json.loads((search / "study.json").read_text())
    search_folders.write_json(search / "study.json", description | {"kind": "tournament"})
    with pytest.raises(RecordsError, match=r"expected kind search or none in .*, got 'tournament'"):
        is_search(search)
    search_folders.write_json(search / "study.json", {"schema_version": 1})
    assert not is_search(search)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("spaces", None, "expected spaces as a dict in"),
        ("schema_version", 2, "expected schema_version 1"),
        ("seeds", 3, "seeds as a list"),
    ],
)
def test_an_incomplete_description_is_refused(search: Path, field: str, value: object, words: str) -> None:
    description = json.loads((search / "study.json").read_text()) | {field: value}
    if value is None:
        description.pop(field)
    search_folders.write_json(search / "study.json", description)
    with pytest.raises(RecordsError, match=words):
        read_search(search)


def test_damaged_trials_are_one_line(search: Path) -> None:
    path = search / "trials.parquet"
    whole, content = pd.read_parquet(path), path.read_bytes()
    whole.drop(columns="feasible").to_parquet(path)
    columnless = path.read_bytes()
    whole.assign(value="soon").to_parquet(path)
    for damaged in (b"not a table", content[:-40], b"", columnless, path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(RecordsError, match=r"expected trials in .*trials.parquet, got: .*: restore it") as caught:
            read_search(search)
        assert "\n" not in str(caught.value)


def test_without_a_finished_trial_there_is_one_line(tmp_path: Path) -> None:
    ends = {("fipo", 0): ("running", ""), ("fipo", 1): ("failed", "killed")}
    folder = search_folders.write_search(tmp_path / "s", replace(SearchTruth(trials=2), ends=ends))
    with pytest.raises(RecordsError, match="got 1 running, 1 failed: report again when one has ended"):
        read_search(folder)
    (folder / "trials.parquet").unlink()
    with pytest.raises(RecordsError, match="it is written when the first trial ends"):
        read_search(folder)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(True, "true"), ("True", "true"), (None, "none"), (3e-4, "0.0003"), (32.0, "32"), ("5.0", "5")],
)
def test_values_are_named_as_their_flags_take_them(value: object, wanted: str) -> None:
    assert word(value) == wanted
