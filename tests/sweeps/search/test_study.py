"""Which trials there are, whatever dies: exactly those planned, none lost, none twice."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from optuna.trial import TrialState

from harness import UsageError
from sweeps.search.samplers import design, sampler_of
from sweeps.search.spaces import load_space
from sweeps.search.study import GRACE_S, Asked, LossStudy, open_storage

FIPO = load_space("default", "fipo")
TRIALS = 5
Open = Callable[[], LossStudy]


def journal_study(folder: Path) -> LossStudy:
    return LossStudy(open_storage(None, folder), "own/fipo", sampler_of("tpe", TRIALS, 0))


@pytest.fixture(params=["journal", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same study again, as another process would."""
    url = None if request.param == "journal" else f"sqlite:///{tmp_path}/optuna.db"
    return lambda: LossStudy(open_storage(url, tmp_path), "own/fipo", sampler_of("tpe", TRIALS, 0))


def asked_for(study: LossStudy) -> Asked:
    asked = study.ask(FIPO)
    assert asked is not None
    return asked


def all_asked(study: LossStudy) -> list[Asked]:
    return list(iter(lambda: study.ask(FIPO), None))


def test_exactly_as_many_trials_as_planned(opened: Open) -> None:
    study = opened()
    for _ in range(3):
        study.make_trials(TRIALS, None)
    found = all_asked(study)
    assert [asked.index for asked in found] == list(range(TRIALS))
    assert all(asked.values.keys() == FIPO.parameters.keys() for asked in found)
    for asked in found:
        study.tell(asked, 0.5, {}, "finished")
    study.make_trials(TRIALS, None)
    assert study.ask(FIPO) is None
    ended = opened().counting_all(TRIALS)
    assert [trial.state.name for trial in ended if trial] == ["COMPLETE"] * TRIALS


def test_a_trial_whose_controller_died_is_made_anew_with_its_settings(opened: Open) -> None:
    first = opened()
    first.make_trials(TRIALS, None)
    first.tell(asked_for(first), 0.5, {}, "finished")
    lost = asked_for(first)
    lost.note(deaths=2)
    first.study.ask()  # killed between asking and drawing
    second = opened()
    assert second.fail_running() == 2
    second.make_trials(TRIALS, None)
    found = {asked.index: asked for asked in all_asked(second)}
    assert sorted(found) == [1, 2, 3, 4]
    assert found[lost.index].values == lost.values
    assert found[lost.index].trial.user_attrs["deaths"] == 2
    lost.note(facts={})  # the first controller only stood still: what it says comes too late, and counts for nothing
    first.tell(lost, 0.9, {}, "finished")
    assert [trial.value for trial in second.trials() if trial.state == TrialState.COMPLETE] == [0.5]


def test_without_a_heartbeat_a_shared_trial_is_made_anew_and_with_one_it_is_left(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = LossStudy(open_storage(url, tmp_path), "own/fipo", sampler_of("tpe", TRIALS, 0))
    study.make_trials(TRIALS, None)
    living, silent = asked_for(study), asked_for(study)
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as database, database:
        older = f"datetime(heartbeat, '-{GRACE_S + 1} seconds')"
        database.execute(
            f"update trial_heartbeats set heartbeat = {older} where trial_id = ?", [silent.trial._trial_id]
        )
    study.make_trials(TRIALS, None)
    found = {asked.index: asked.values for asked in all_asked(study)}
    assert living.index not in found
    assert found[silent.index] == silent.values


def test_where_two_make_the_same_trial_one_counts_and_each_runs_once(opened: Open) -> None:
    first, second = opened(), opened()
    for study in (first, second):
        study.make_trials(TRIALS, None)
    first.study.enqueue_trial({}, user_attrs={"index": 2, "deaths": 0})  # the other was a moment later
    found = []
    for turn in range(2 * TRIALS):
        study = (first, second)[turn % 2]
        if asked := study.ask(FIPO):
            found.append(asked.index)
            study.tell(asked, 0.5, {}, "finished")
    assert sorted(found) == list(range(TRIALS))


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_designed_search_has_the_same_trials_whatever_happens(opened: Open, sampler: str) -> None:
    values = design(FIPO, sampler, TRIALS, 0)
    assert values is not None
    study = opened()
    study.make_trials(TRIALS, values)
    assert asked_for(study).values == values[0]
    study = opened()
    study.fail_running()
    study.make_trials(TRIALS, values)
    assert {asked.index: asked.values for asked in all_asked(study)} == dict(enumerate(values))


def test_trials_drawn_at_random_differ_also_after_a_restart(opened: Open) -> None:
    found = []
    for _ in range(TRIALS):  # a new process for every trial: each with the sampler's first random numbers
        study = opened()
        study.make_trials(TRIALS, None)
        asked = asked_for(study)
        found.append(asked.values["lr"])
        study.tell(asked, 0.5, {}, "finished")
    assert len(set(found)) == TRIALS


def test_hosts_that_ask_at_once_do_not_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for host in ("one", "two"):
        monkeypatch.setattr("sweeps.search.study.platform.node", lambda host=host: host)
        storage = open_storage(f"sqlite:///{tmp_path}/{host}.db", tmp_path)
        study = LossStudy(storage, "own/fipo", sampler_of("tpe", 1, 0))
        study.make_trials(1, None)
        drawn.append(asked_for(study).values)
    assert drawn[0] != drawn[1]


def test_trials_without_a_value_are_told_as_what_they_are(opened: Open) -> None:
    study = opened()
    study.make_trials(TRIALS, None)
    for state in ("finished", "infeasible", "failed"):
        study.tell(asked_for(study), 0.5 if state == "finished" else None, {}, state)
    study.make_trials(3, None)  # a trial that failed counts, and is not made anew
    trials = [trial for trial in study.counting_all(3) if trial]
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert trials[1].constraints == {"infeasible": 1.0}
    assert [trial.user_attrs["state"] for trial in trials] == ["finished", "infeasible", "failed"]


def test_what_cannot_be_run_and_what_is_beyond_a_limit_teach_tpe(tmp_path: Path) -> None:
    # high learning rates cannot be run, those of long half-lives break a limit: TPE turns away from both
    study = LossStudy(open_storage(None, tmp_path), "own/fipo", sampler_of("tpe", 40, 0))
    study.make_trials(60, None)
    good = []
    for asked in iter(lambda: study.ask(FIPO), None):
        rate, decay = asked.values["lr"], asked.values["fipo_decay_rate"]
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
    opened().claim("this one")
    opened().claim("this one")
    with pytest.raises(UsageError, match="it holds another search named 'own/fipo'"):
        opened().claim("another")
    opened().claim("with a setting that was added since", is_ours=True)
    opened().claim("with a setting that was added since")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal with two ended trials and one that waits."""
    folder = tmp_path_factory.mktemp("journal")
    study = journal_study(folder)
    study.make_trials(3, None)
    for value in (0.25, 0.5):
        study.tell(asked_for(study), value, {}, "finished")
    return (folder / "optuna.journal").read_bytes()


@pytest.mark.parametrize("cut", [0, 1, 7, 60, 150])
def test_a_torn_journal_is_repaired_and_can_be_written_again(written: bytes, tmp_path: Path, cut: int) -> None:
    journal = tmp_path / "optuna.journal"
    torn = written[: len(written) - cut]
    journal.write_bytes(torn)
    (tmp_path / "optuna.journal.lock").symlink_to(journal)  # of a writer that was killed: else it waits half a minute
    open_storage(None, tmp_path)
    kept = [file.read_bytes() for file in tmp_path.glob("optuna.journal.torn-*")]
    assert journal.read_bytes() + b"".join(kept) == torn
    study = journal_study(tmp_path)
    study.fail_running()
    study.make_trials(3, None)
    study.tell(asked_for(study), 0.75, {}, "finished")
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
    values = [trial.value for trial in journal_study(tmp_path).trials() if trial.state == TrialState.COMPLETE]
    assert (values[0], values[-1]) == (0.25, 0.75)


def test_damage_before_the_last_line_is_named(written: bytes, tmp_path: Path) -> None:
    lines = written.split(b"\n")
    (tmp_path / "optuna.journal").write_bytes(b"\n".join([lines[0], lines[1][:9], *lines[2:]]))
    with pytest.raises(UsageError, match="expected JSON in every line"):
        open_storage(None, tmp_path)
