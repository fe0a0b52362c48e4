"""Which trials there are, whatever dies: exactly those planned, none lost, none twice."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from optuna.trial import Trial, TrialState

from harness import UsageError
from sweeps.search.options import sampler_of
from sweeps.search.spaces import design, load_space
from sweeps.search.study import GRACE_S, LossStudy, open_storage

FIPO = load_space("default", "fipo")
TRIALS = 5
Open = Callable[..., LossStudy]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Opens the same study again, as another process would."""
    return lambda design=None: LossStudy(open_storage(None, tmp_path), "own/fipo", sampler_of("tpe", TRIALS, 0), design)


def asked_for(study: LossStudy) -> Trial:
    asked = study.ask(FIPO, TRIALS)
    assert asked is not None
    return asked


def all_asked(study: LossStudy) -> list[Trial]:
    return list(iter(lambda: study.ask(FIPO, TRIALS), None))


def test_exactly_as_many_trials_as_planned(opened: Open) -> None:
    study = opened()
    for _ in range(3):
        study.make_trials(TRIALS)
    found = all_asked(study)
    assert [asked.number for asked in found] == list(range(TRIALS))
    assert all(asked.params.keys() == FIPO.searched.keys() for asked in found)
    for asked in found:
        study.tell(asked, 0.5, {}, "finished")
    study.make_trials(TRIALS)
    assert study.ask(FIPO, TRIALS) is None
    assert [trial.state.name for trial in opened().trials()] == ["COMPLETE"] * TRIALS


def test_a_trial_whose_controller_died_goes_on_with_its_settings(opened: Open) -> None:
    first = opened()
    first.make_trials(TRIALS)
    first.tell(asked_for(first), 0.5, {}, "finished")
    lost = asked_for(first)
    first.study.ask()  # killed between asking and drawing
    second = opened()
    assert second.release_all() == 2
    second.make_trials(TRIALS)
    found = {asked.number: asked for asked in all_asked(second)}
    assert sorted(found) == [1, 2, 3, 4]
    assert found[lost.number].params == lost.params
    second.tell(found[lost.number], 0.7, {}, "finished")
    first.note(
        lost, facts={}
    )  # the first controller only stood still: what it says comes too late, and counts for nothing
    first.tell(lost, 0.9, {}, "finished")
    assert [trial.value for trial in second.trials() if trial.state == TrialState.COMPLETE] == [0.5, 0.7]


def test_without_a_heartbeat_a_shared_trial_waits_again_and_with_one_it_is_left(opened: Open, tmp_path: Path) -> None:
    study = opened()
    study.make_trials(TRIALS)
    living, silent = asked_for(study), asked_for(study)
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as database, database:
        older = f"datetime(heartbeat, '-{GRACE_S + 1} seconds')"
        database.execute(f"update trial_heartbeats set heartbeat = {older} where trial_id = ?", [silent._trial_id])
    study.make_trials(TRIALS)
    found = {asked.number: asked.params for asked in all_asked(study)}
    assert living.number not in found
    assert found[silent.number] == silent.params


def test_where_two_make_trials_at_once_each_planned_one_runs_once(opened: Open) -> None:
    first, second = opened(), opened()
    first.make_trials(TRIALS)
    second.study.enqueue_trial({})  # the other made one more, a moment later
    found = []
    for turn in range(2 * TRIALS):
        study = (first, second)[turn % 2]
        if asked := study.ask(FIPO, TRIALS):
            found.append(asked.number)
            study.tell(asked, 0.5, {}, "finished")
    assert sorted(found) == list(range(TRIALS))
    assert first.ask(FIPO, TRIALS + 1) is not None  # it is the next of a longer search


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_designed_search_has_the_same_trials_whatever_happens(opened: Open, sampler: str) -> None:
    values = design(FIPO, sampler, TRIALS, 0)
    assert values is not None
    study = opened(values)
    study.make_trials(TRIALS)
    assert asked_for(study).params == values[0]
    study = opened(values)
    study.release_all()
    study.make_trials(TRIALS)
    assert {asked.number: asked.params for asked in all_asked(study)} == dict(enumerate(values))


def test_trials_drawn_at_random_differ_also_after_a_restart(opened: Open) -> None:
    found = []
    for _ in range(TRIALS):  # a new process for every trial: each with the sampler's first random numbers
        study = opened()
        study.make_trials(TRIALS)
        asked = asked_for(study)
        found.append(asked.params["lr"])
        study.tell(asked, 0.5, {}, "finished")
    assert len(set(found)) == TRIALS


def test_hosts_that_ask_at_once_do_not_draw_the_same(tmp_path: Path) -> None:
    drawn = []
    for host in ("one", "two"):
        storage = open_storage(f"sqlite:///{tmp_path}/{host}.db", tmp_path)
        study = LossStudy(storage, "own/fipo", sampler_of("tpe", 1, 0), place=host)
        study.make_trials(1)
        drawn.append(asked_for(study).params)
    assert drawn[0] != drawn[1]


def test_trials_without_a_value_are_told_as_what_they_are(opened: Open) -> None:
    study = opened()
    study.make_trials(TRIALS)
    for state in ("finished", "infeasible", "failed"):
        study.tell(asked_for(study), 0.5 if state == "finished" else None, {}, state)
    trials = study.trials(3)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert trials[1].constraints == {"infeasible": 1.0}
    assert [trial.user_attrs["state"] for trial in trials] == ["finished", "infeasible", "failed"]


def test_what_cannot_be_run_and_what_is_beyond_a_limit_teach_tpe(tmp_path: Path) -> None:
    # high learning rates cannot be run, those of long half-lives break a limit: TPE turns away from both
    study = LossStudy(open_storage(None, tmp_path), "own/fipo", sampler_of("tpe", 40, 0))
    study.make_trials(60)
    good = []
    for asked in iter(lambda: study.ask(FIPO, 60), None):
        rate, decay = asked.params["lr"], asked.params["fipo_decay_rate"]
        good.append(rate < 3e-4 and decay < 32)
        study.tell(asked, *((0.5, {"collapse": decay - 32}, "finished") if rate < 3e-4 else (None, {}, "infeasible")))
    # a quarter of the space is good: 15 of 60 at random, with a standard deviation of 3.3
    assert sum(good) > 36


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://user:secret@127.0.0.1:1/none", "postgresql://user@127.0.0.1:1/none: could not be opened"),
        ("nonsense", "nonsense: could not be opened"),
        ("mysql://a@b/c", "mysql://a@b/c: its driver is not installed"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_its_password(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"^--storage [^\n]*$") as raised:
        open_storage(url, tmp_path)
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_storage_that_holds_another_search_of_the_name_is_refused(opened: Open) -> None:
    for _ in range(2):
        opened().claim({"seeds": [1000], "settings": {"lr": 1e-3}})
    opened().claim({"seeds": [1000], "settings": {"lr": 1e-3, "added_since": 1}})
    for other, words in (
        ({"seeds": [1000], "settings": {"lr": 2e-3}}, "its settings.lr is 0.001, not 0.002"),
        ({"seeds": [1001], "settings": {"lr": 1e-3}}, r"its seeds is \[1000\], not \[1001\]"),
    ):
        with pytest.raises(UsageError, match=f"it holds another search named 'own/fipo': {words}"):
            opened().claim(other)
