from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.records.search import Search, read_search
from analysis.verdict.search import NOT_RUN, best_of, best_sentence, found_sentences, search_findings, unfinished_note
from tests.analysis import folders, search_folders
from tests.analysis.search_folders import SearchTruth


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


def test_the_best_is_feasible_and_of_equals_the_first(tmp_path: Path) -> None:
    best = best_of(search_with(tmp_path, [0.6, 0.8, 0.9, 0.8], ends={("fipo", 2): ("over", None)}), "fipo")
    assert (best.trial, best.value, best.ended) == (1, 0.8, 4)
    assert best.preset == "best/fipo.json"
    assert set(best.parameters) == set(search_folders.SPACE)


def test_a_loss_without_a_feasible_trial_says_so(tmp_path: Path) -> None:
    found = search_findings(search_with(tmp_path, [0.6], ends={("fipo", 0): ("over", None)}))
    assert best_sentence(found, found.bests[0]) == "FIPO: none of 1 ended trial has a value within the limits."


def test_an_unfinished_search_says_so(tmp_path: Path) -> None:
    ends = {("fipo", 1): ("running", ""), ("fipo", 2): ("waiting", "")}
    search = read_search(search_folders.write_search(tmp_path, SearchTruth(trials=4, ends=ends)))
    assert unfinished_note(search) == "Not finished: 2 trials of FIPO still open. What follows will change."
    begun = replace(search, trials=search.trials[search.trials["trial"] == 0])
    assert unfinished_note(begun) == "Not finished: 3 trials of FIPO still open. What follows will change."


def test_the_winners_are_a_study_of_their_own_and_the_number_to_quote(tmp_path: Path) -> None:
    folder = search_folders.write_search(tmp_path / "s", SearchTruth(losses=("dapo", "fipo"), trials=3))
    assert found_sentences(search_findings(read_search(folder)))[0] == NOT_RUN
    arms = (folders.ArmTruth("dapo"), folders.ArmTruth("fipo", "fipo"))
    folders.write_study(folder / "winners", folders.smaller(folders.StudyTruth(arms), steps=2, prompts=4))
    found = search_findings(read_search(folder))
    assert found.winners is not None
    mean = found.winners.scores.groupby("arm")["final_accuracy"].mean()["fipo"]
    said = found_sentences(found)
    assert said[0].startswith("On fresh seeds: ")
    assert said[2].startswith(
        f"FIPO: the best of 3 trials is trial {found.bests[1].trial}, {found.bests[1].value:.3f} ["
    )
    assert f"On 5 fresh seeds its settings reach {mean:.3f} [" in said[2]
    content = found.as_json()
    assert content["trials"] == {"dapo": {"feasible": 3}, "fipo": {"feasible": 3}}
