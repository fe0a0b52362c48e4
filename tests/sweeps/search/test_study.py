"""Which trials there are, whatever dies: exactly those planned, none lost, none twice."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from harness import UsageError
from sweeps.search import study as optuna_study
from sweeps.search.designs import design
from sweeps.search.samplers import Spec, pruner_spec, sampler_spec
from sweeps.search.spaces import load_space
from sweeps.search.study import Asked, LossStudy, open_storage
from sweeps.workers.holders import Holder
from tests.sweeps.processes import dead_holder

FIPO = load_space("default", "fipo")
TRIALS = 5
Open = Callable[[], LossStudy]


@pytest.fixture(params=["journal", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same study again, as another process would."""
    url = None if request.param == "journal" else f"sqlite:///{tmp_path}/optuna.db"

    def open_study() -> LossStudy:
        return LossStudy(open_storage(url, tmp_path), "own/fipo", sampler_spec("tpe", TRIALS), Spec("none"))

    return open_study


def asked_for(study: LossStudy) -> Asked:
    asked = study.ask(FIPO, 0)
    assert asked is not None
    return asked


def states(study: LossStudy) -> list[str]:
    return [trial.state.name for trial in study.counting_all(TRIALS).values() if trial]


def test_exactly_as_many_trials_as_planned(opened: Open) -> None:
    study = opened()
    for _ in range(3):
        study.make_trials(TRIALS, None)
    found = [asked_for(study) for _ in range(TRIALS)]
    assert [asked.index for asked in found] == list(range(TRIALS))
    assert study.ask(FIPO, 0) is None
    assert all(asked.values.keys() == FIPO.parameters.keys() for asked in found)
    for asked in found:
        study.tell(asked, 0.5, {}, "finished")
    study.make_trials(TRIALS, None)
    assert study.ask(FIPO, 0) is None
    assert states(opened()) == ["COMPLETE"] * TRIALS


def test_a_trial_whose_controller_died_is_made_anew_with_its_settings(opened: Open) -> None:
    first = opened()
    first.make_trials(TRIALS, None)
    first.tell(asked_for(first), 0.5, {}, "finished")
    lost = asked_for(first)
    lost.note(holder=dead_holder().written(), deaths=2)
    second = opened()
    assert second.take_over(alone=False)
    assert not second.take_over(alone=False)
    second.make_trials(TRIALS, None)
    found = {asked.index: asked for asked in iter(lambda: second.ask(FIPO, 0), None)}
    assert sorted(found) == [1, 2, 3, 4]
    assert found[lost.index].values == lost.values
    assert found[lost.index].trial.user_attrs["deaths"] == 2
    assert not first.still_held(lost)


def test_a_trial_lost_before_it_had_settings_is_made_anew(opened: Open) -> None:
    first = opened()
    first.make_trials(TRIALS, None)
    first.study.ask()  # killed between asking and drawing
    second = opened()
    assert second.take_over(alone=True)
    second.make_trials(TRIALS, None)
    assert sorted(asked.index for asked in iter(lambda: second.ask(FIPO, 0), None)) == list(range(TRIALS))


def test_a_living_controllers_trial_is_left_to_it(opened: Open) -> None:
    study = opened()
    study.make_trials(TRIALS, None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        asked = asked_for(study)
        asked.note(holder=Holder.of(other.pid).written())
        assert not study.take_over(alone=False)
        assert study.take_over(alone=True)  # the storage is this controller's alone, so nobody runs it
        other.communicate()


def test_another_hosts_trial_is_taken_when_its_heartbeat_stands_still(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, elsewhere = opened(), {**Holder.this().written(), "host": "another", "boot": "another"}
    study.make_trials(TRIALS, None)
    now = 1000.0
    monkeypatch.setattr(optuna_study.time, "monotonic", lambda: now)
    asked = asked_for(study)
    asked.note(holder=elsewhere, beat=1.0)
    assert not study.take_over(alone=False)
    now += optuna_study.LEASE_S - 1
    assert not study.take_over(alone=False)
    asked.note(beat=2.0)
    now += 2
    assert not study.take_over(alone=False)  # it has been heard of
    now += optuna_study.LEASE_S + 1
    assert study.take_over(alone=False)


def test_where_two_make_the_same_trial_one_counts(opened: Open) -> None:
    study = opened()
    study.make_trials(TRIALS, None)
    study.study.enqueue_trial({}, user_attrs={"index": 2, "deaths": 0})  # the other controller was a moment later
    found = [asked.index for asked in iter(lambda: study.ask(FIPO, 0), None)]
    assert sorted(found) == list(range(TRIALS))


def test_two_controllers_at_once_run_each_trial_once(opened: Open) -> None:
    first, second = opened(), opened()
    for study in (first, second):
        study.make_trials(TRIALS, None)
    found = []
    for turn in range(2 * TRIALS):
        study = (first, second)[turn % 2]
        asked = study.ask(FIPO, 0)
        if asked:
            found.append(asked.index)
            study.tell(asked, 0.5, {}, "finished")
    assert sorted(found) == list(range(TRIALS))


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_designed_search_has_the_same_trials_whatever_happens(opened: Open, sampler: str) -> None:
    values = design(FIPO, sampler, TRIALS, (0, "fipo"))
    assert values is not None
    study = opened()
    study.make_trials(TRIALS, values)
    lost = asked_for(study)
    assert lost.values == values[0]
    lost.note(holder=dead_holder().written())
    study = opened()
    assert study.take_over(alone=True)
    study.make_trials(TRIALS, values)
    found = {asked.index: asked.values for asked in iter(lambda: study.ask(FIPO, 0), None)}
    assert found == dict(enumerate(values))


def test_trials_drawn_at_random_differ_also_after_a_restart(opened: Open) -> None:
    found = []
    for _ in range(TRIALS):  # a new process for every trial: each with the sampler's first random numbers
        study = opened()
        study.make_trials(TRIALS, None)
        asked = asked_for(study)
        found.append(asked.values["lr"])
        study.tell(asked, 0.5, {}, "finished")
    assert len(set(found)) == TRIALS


def test_trials_without_a_value_are_told_as_what_they_are(opened: Open) -> None:
    study = opened()
    study.make_trials(TRIALS, None)
    for state in ("finished", "pruned", "infeasible", "failed"):
        study.tell(asked_for(study), 0.5 if state == "finished" else None, {}, state)
    trials = [trial for trial in study.counting_all(4).values() if trial]
    expected = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL]
    assert [trial.state for trial in trials] == expected
    assert trials[2].constraints == {"infeasible": 1.0}
    assert [trial.user_attrs["state"] for trial in trials] == ["finished", "pruned", "infeasible", "failed"]


def test_what_cannot_be_run_and_what_is_beyond_a_limit_teach_the_sampler() -> None:
    # high learning rates cannot be run, those of long half-lives break a limit: TPE turns away from both
    study = LossStudy(optuna.storages.InMemoryStorage(), "own/fipo", sampler_spec("tpe", 40), Spec("none"))
    study.make_trials(60, None)
    good = []
    for asked in iter(lambda: study.ask(FIPO, 0), None):
        rate, decay = (float(str(asked.values[name])) for name in ("lr", "fipo_decay_rate"))
        good.append(rate < 3e-4 and decay < 32)
        study.tell(asked, *((0.5, {"collapse": decay - 32}, "finished") if rate < 3e-4 else (None, {}, "infeasible")))
    # a quarter of the space is good: 15 of 60 at random, with a standard deviation of 3.3
    assert sum(good) > 36


def test_every_argument_of_the_sampler_is_given() -> None:
    known = {"constraints_func", "seed", "warn_independent_sampling", "independent_sampler"}
    deprecated = {"consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints", "gamma", "weights"}
    for name, kind in (("tpe", optuna.samplers.TPESampler), ("gp", optuna.samplers.GPSampler)):
        arguments = set(inspect.signature(kind).parameters)
        assert arguments - known - deprecated == set(sampler_spec(name, 12).arguments)
    assert set(inspect.signature(optuna.pruners.SuccessiveHalvingPruner).parameters) == set(
        pruner_spec("asha", 2).arguments
    )


def test_asha_stops_the_worse_half(tmp_path: Path) -> None:
    study = LossStudy(open_storage(None, tmp_path), "own/fipo", sampler_spec("tpe", 8), pruner_spec("asha", 2))
    study.make_trials(8, None)
    stopped = []
    for value in (0.9, 0.8, 0.1, 0.95):
        asked = asked_for(study)
        stopped.append(asked.report(2, value))
        study.tell(asked, None if stopped[-1] else value, {}, "pruned" if stopped[-1] else "finished")
    assert stopped == [False, True, True, False]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://user:secret@127.0.0.1:1/none", "postgresql://user@127.0.0.1:1/none: could not be opened"),
        ("nonsense", "nonsense: could not be opened"),
        ("mysql://a@b/c", "mysql://a@b/c: its driver is not installed"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_its_password(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"^--storage ") as raised:
        open_storage(url, tmp_path)
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_storage_that_holds_another_search_of_the_name_is_refused(opened: Open) -> None:
    opened().claim("this one")
    opened().claim("this one")
    with pytest.raises(UsageError, match="it holds another search named 'own/fipo'"):
        opened().claim("another")


def test_hosts_that_ask_at_once_do_not_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for host in ("one", "two"):
        monkeypatch.setattr("sweeps.workers.holders.platform.node", lambda host=host: host)
        study = LossStudy(
            open_storage(f"sqlite:///{tmp_path}/{host}.db", tmp_path), "own/fipo", Spec("tpe"), Spec("none")
        )
        study.make_trials(1, None)
        drawn.append(asked_for(study).values)
    assert drawn[0] != drawn[1]


def test_a_gaussian_process_learns_of_what_cannot_be_run() -> None:
    study = LossStudy(optuna.storages.InMemoryStorage(), "own/fipo", sampler_spec("gp", 8), Spec("none"))
    study.make_trials(8, None)
    rates = []
    for asked in iter(lambda: study.ask(FIPO, 0), None):
        rates.append(float(str(asked.values["lr"])))
        state = "infeasible" if rates[-1] > 3e-4 else "finished"
        study.tell(asked, None if state == "infeasible" else 0.5, {"collapse": 0.0}, state)
    trials = [trial for trial in study.trials() if trial.user_attrs["state"] == "infeasible"]
    assert trials
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert {trial.constraints["infeasible"] for trial in trials} == {1.0}
    assert {trial.constraints["infeasible"] for trial in study.trials() if trial not in trials} <= {-1.0}
