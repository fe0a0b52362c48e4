"""A search from its command line to its folder."""

import re
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from harness import resolve
from harness.run.lock import locked
from tests.harness.command_line import Outcome
from tests.sweeps.processes import processes_that_name
from tests.sweeps.search.searching import arguments, read, rows, runs_of, started

pytestmark = pytest.mark.train

# the highest rate makes weights infinite within a step: that trial has no value
DIVERGING = """
description = "for a test"
[parameters]
lr = { choice = [1e-3, 1e37] }
"""


class Searched(NamedTuple):
    """A search that has ended, and how to start it again."""

    study: Path
    command: list[str]
    first: Outcome


@pytest.fixture(scope="module")
def searched(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Two losses at two rates of which one diverges; the winners run again, and a placebo of one of them."""
    folder = tmp_path_factory.mktemp("search")
    changes = {"losses": "grpo,fipo", "sampler": "qmc", "trials": 2, "report_seeds": 1, "controls": "sign_mean"}
    command = arguments(folder, model_folder, DIVERGING, **changes)
    return Searched(folder / "study", command, started(command))


def test_trials_of_every_loss_end_and_what_diverged_is_infeasible(searched: Searched) -> None:
    assert (searched.first.exit_code, searched.first.errors) == (0, [])
    assert processes_that_name(str(searched.study)) == []
    found = rows(searched.study)
    assert [(row["loss"], row["trial"]) for row in found] == [
        (loss, trial) for loss in ("grpo", "fipo") for trial in (0, 1)
    ]
    for loss in ("grpo", "fipo"):
        states = {row["param.lr"]: row["state"] for row in found if row["loss"] == loss}
        assert states == {1e-3: "finished", 1e37: "infeasible"}
    for row in found:
        finished = row["state"] == "finished"
        assert row["feasible"] == finished
        assert (row["value"] is None) != finished
        assert (row["reason"] is None) == finished
        assert row["seeds"] == ([1000] if finished else None)
        assert finished or "diverged: " in row["reason"]
    assert [row["ended"] for row in found if row["loss"] == "fipo"] in ([0, 1], [1, 0])


def test_what_is_recorded_is_the_same_budget_and_prompts_that_do_not_report(searched: Searched) -> None:
    described = read(searched.study / "study.json")
    budget = 1 * 4 * 4 * 24  # steps x prompts x group x response tokens
    assert (described["kind"], described["token_budget"], described["trials"]) == ("search", budget, 2)
    assert described["sampler"]["optuna"].startswith("5.")
    assert described["spaces"]["fipo"] == {"lr": {"kind": "choice", "values": [1e-3, 1e37]}}
    recorded = [read(path)["config"] for path in searched.study.glob("runs/*/config.json")]
    assert len(recorded) == 4
    assert {config["run"]["token_budget"] for config in recorded} == {budget}
    assert {config["evaluation"]["eval_split"] for config in recorded} == {"tune"}
    assert {config["run"]["seed"] for config in recorded} == {1000}
    winners = [read(path)["config"] for path in searched.study.glob("winners/runs/*/config.json")]
    assert {config["evaluation"]["eval_split"] for config in winners} == {"report"}
    assert {config["run"]["seed"] for config in winners} == {0}
    assert {config["optimizer"]["lr"] for config in winners} == {1e-3}
    losses = sorted((config["loss"]["loss_type"], config["loss"]["placebo"]) for config in winners)
    assert losses == [("fipo", "none"), ("fipo", "sign_mean"), ("grpo", "none")]
    roles = read(searched.study / "winners/study.json")["roles"]
    assert (roles["sign_mean"]["role"], roles["sign_mean"]["against"]) == ("placebo", "fipo")


def test_recorded_settings_are_the_requested_ones(searched: Searched) -> None:
    for path in searched.study.glob("runs/*/config.json"):
        recorded, asked = read(path)["config"], read(searched.study / "configs" / f"{path.parent.name}.json")
        recorded["run"].pop("output_dir")
        asked["run"].pop("output_dir")
        assert recorded == asked


def test_the_best_is_a_preset_ready_to_run(searched: Searched) -> None:
    config = resolve({}, preset=str(searched.study / "best" / "fipo.json"))
    winner = read(next(searched.study.glob("winners/runs/fipo-*/config.json")))["config"]
    assert config.model_dump(mode="json") == {**winner, "run": {**winner["run"], "output_dir": None}}


def test_the_plan_is_printed_first_and_then_what_ended_and_why(searched: Searched) -> None:
    plan, _, ended = "\n".join(searched.first.printed).partition(" trial 0: accuracy")
    for words in ("search: grpo, fipo: 2 trials each by qmc", "tokens: at most", "time: unknown", "winners: run again"):
        assert words in plan
    assert "(all 4 trials have ended)" in ended
    assert re.search("fipo trial [01]: infeasible: diverged: ", " ".join(searched.first.printed))


def test_the_same_command_again_runs_nothing(searched: Searched) -> None:
    before = (runs_of(searched.study), runs_of(searched.study / "winners"))
    again = started(searched.command)
    assert again.exit_code == 0
    assert (runs_of(searched.study), runs_of(searched.study / "winners")) == before
    assert "4 of them ended before" in "\n".join(again.printed)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--seeds", "2"), "its seeds is [1000], not [1000, 1001]"),
        (("--losses", "fipo"), "its losses is ['grpo', 'fipo'], not ['fipo']"),
        (("--grad_clip", "2"), "its settings.grpo.grad_clip is None, not 2.0"),
    ],
)
def test_another_search_in_its_folder_is_refused(searched: Searched, changes: tuple[str, str], words: str) -> None:
    before = read(searched.study / "study.json")
    code, printed, errors = started([*searched.command, *changes])
    assert (code, printed, len(errors)) == (2, [], 1)
    assert words in errors[0]
    assert read(searched.study / "study.json") == before


def test_a_cap_ends_the_search_and_a_larger_one_goes_on(model_folder: str, tmp_path: Path) -> None:
    command = arguments(tmp_path, model_folder, trials=2, sampler="random", seeds=2)
    capped = started([*command, "--max_hours", "1e-9"])  # before the first run
    assert (capped.exit_code, runs_of(tmp_path / "study")) == (0, {})
    assert "--max_hours 1e-09 reached after 0 of 2 trials" in " ".join(capped.printed)
    with locked(tmp_path / "study" / "runs" / "dapo-trial0000-seed1000"):  # so that the first trial cannot end before
        capped = started([*command, "--max_hours", "0.0002"])
    assert capped.exit_code == 0
    assert re.search("--max_hours 0.0002 reached after [01] of 2 trials", " ".join(capped.printed))
    first = runs_of(tmp_path / "study")
    done = started([*command, "--trials", "3"])  # and one more than was planned
    assert done.exit_code == 0
    assert [row["state"] for row in rows(tmp_path / "study")] == ["finished"] * 3
    assert first.items() <= runs_of(tmp_path / "study").items()
    for row in rows(tmp_path / "study"):
        name = f"dapo-trial{row['trial']:04d}-seed"
        means = [final_accuracy(tmp_path / "study" / "runs" / f"{name}{seed}") for seed in (1000, 1001)]
        assert row["values"] == pytest.approx(means)
        assert row["value"] == pytest.approx(sum(means) / 2)
        assert (row["seeds"], row["feasible"]) == ([1000, 1001], row["constraint.collapse"] <= 0)


def final_accuracy(run: Path) -> float:
    """The mean of the last three evaluations, the one before training left out."""
    tables = [pq.read_table(table)["correct"].to_pylist() for table in sorted((run / "evals").iterdir())[1:][-3:]]
    return sum(sum(each) / len(each) for each in tables) / len(tables)
