"""Optuna's part: which trials there are and which settings each has.

All trials of a search are made at once, waiting; asking takes the next one. So no more can ever count than were
planned, and which settings a designed sampler gives was settled before anything ran. A trial whose controller died
waits again, with the settings that it was given: by Optuna's heartbeat where several controllers share a database, at
the start where it is this controller's alone.
"""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness import HarnessError, UsageError
from sweeps.search.spaces import Parameter, Space, Values, seed_of
from sweeps.study.folder import first_difference
from sweeps.tracking.log import with_driver, without_password

BEAT_S, GRACE_S = 15, 60  # between heartbeats; without one for so long a controller is taken for dead
OPEN_ATTEMPTS = 3
DATABASE = "optuna.db"


def open_storage(url: str | None, folder: Path, attempts: int = OPEN_ATTEMPTS) -> RDBStorage:
    """The storage at the URL, or the database in the study's folder. Raises UsageError where it cannot be opened."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = url or f"sqlite:///{folder.resolve() / DATABASE}"
    # they are experimental, and meant for Optuna's own loop
    warnings.filterwarnings("ignore", "(?i).*(heartbeat|fail_stale_trials)")
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return RDBStorage(with_driver(url), options, heartbeat_interval=BEAT_S, grace_period=GRACE_S)
    except ImportError as error:
        raise UsageError(f"--storage {without_password(url)}: its driver is not installed: {error}") from None
    except Exception as error:  # sqlalchemy raises whatever the driver does
        if attempts == 1:
            words = str(error).splitlines()[0]
            raise UsageError(f"--storage {without_password(url)}: could not be opened: {words}") from None
    time.sleep(1.0)  # two hosts that make its tables at once are in each other's way once
    return open_storage(url, folder, attempts - 1)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Say in one line that the storage failed: a database that went away is no fault of the search."""
    try:
        yield
    except StorageInternalError as error:
        words = str(error.__cause__ or error).splitlines()[0]
        raise HarnessError(f"the storage failed: {words}: mend it, and start the same command again") from None


class Designed(RandomSampler):
    """Gives each trial the settings that were drawn for its number."""

    def __init__(self, design: Sequence[Values]) -> None:
        super().__init__()
        self.design = design

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, of: BaseDistribution) -> Any:  # noqa: ARG002
        """The setting."""
        return self.design[trial.number][name]


class LossStudy:
    """The trials of one loss in the storage."""

    def __init__(
        self,
        storage: RDBStorage,
        name: str,
        sampler: Mapping[str, Any],
        design: Sequence[Values] | None = None,
        place: str = "",
    ) -> None:
        """design: settings by trial, without which the sampler learns from results. place: of this controller among
        several, which must not draw the same when they ask at the same time.
        """
        self.storage, self.name, self.sampler, self.design, self.place = storage, name, sampler, design, place
        self.study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)

    def claim(self, search: Mapping[str, Any]) -> None:
        """Mark the study as this search's, as description.of_loss says it. Raises UsageError where it is another's."""
        known = self.study.user_attrs.get("search")
        if known is None:
            self.study.set_user_attr("search", search)
            return
        is_older = not isinstance(known, Mapping)
        if other := "version is an earlier one" if is_older else first_difference(search, known, ("settings",)):
            raise UsageError(
                f"--storage: it holds another search named {self.name!r}: its {other}: give --study_name another name, "
                "on every host the same"
            )

    def make_trials(self, count: int) -> None:
        """Make the trials that are missing, and have those wait again whose controllers show no life."""
        for trial_id in self.storage._get_stale_trial_ids(self.study._study_id):
            self.release(trial_id)
        for _ in range(len(self.trials()), count):
            self.study.enqueue_trial({})

    def release_all(self) -> int:
        """Have the trials under way wait again, which no living controller can run; how many there were."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in running:
            self.release(trial._trial_id)
        return len(running)

    def release(self, trial_id: int) -> None:
        """Have a trial wait again, unless it has ended meanwhile; its settings stay."""
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def ask(self, space: Space, count: int) -> optuna.Trial | None:
        """The next waiting one of the first `count` trials with its settings, or None."""
        while waiting := [trial for trial in self.trials(count) if trial.state == TrialState.WAITING]:
            self.study.sampler = self.sampler_for(waiting[0].number)
            self.storage.record_heartbeat(waiting[0]._trial_id)  # first: its last one may be old
            trial = self.study.ask({name: distribution(one) for name, one in space.searched.items()})
            self.storage.record_heartbeat(trial._trial_id)
            if trial.number < count:
                return trial
            self.release(trial._trial_id)  # another took the last one, and Optuna made a new trial
        return None

    def sampler_for(self, number: int) -> BaseSampler:
        """The sampler of one trial."""
        if self.design is not None:
            return Designed(self.design)
        seed = seed_of(self.sampler["seed"], self.name.rpartition("/")[2], number, self.place)
        return TPESampler(seed=seed, **self.sampler["arguments"])

    def note(self, trial: optuna.Trial, **facts: Any) -> None:
        """Keep facts with the trial."""
        with suppress(UpdateFinishedTrialError):  # another controller took it, while this one stood still
            for name, value in facts.items():
                trial.set_user_attr(name, value)

    def tell(self, trial: optuna.Trial, value: float | None, constraints: Mapping[str, float], state: str) -> None:
        """End a trial: `finished` with its value, else `infeasible` or `failed` without."""
        self.note(trial, state=state, ended=time.time())
        without = TrialState.FAIL if state == "failed" else TrialState.PRUNED  # TPE learns from what it calls pruned
        outcome = (without, None) if value is None else (TrialState.COMPLETE, [value])
        known = self.trials()[trial.number].constraints  # of a controller that was killed as it told this
        with suppress(UpdateFinishedTrialError):
            for name, excess in {**constraints, "infeasible": 1.0 if state == "infeasible" else -1.0}.items():
                if name not in known:
                    trial.set_constraint(name, excess)
            self.storage.set_trial_state_values(trial._trial_id, *outcome)

    def trials(self, count: int | None = None) -> list[FrozenTrial]:
        """All trials, or the first ones, as they now are."""
        return self.study.get_trials(deepcopy=False)[:count]


def distribution(one: Parameter) -> BaseDistribution:
    """The parameter's range as Optuna has it."""
    if one.kind == "choice":
        return CategoricalDistribution(one.values)
    if one.kind == "log":
        return FloatDistribution(float(one.values[0]), float(one.values[1]), log=True)
    low, step = one.values[0], one.values[2]
    high = one.at(1 - 0.5 / one.count)  # Optuna wants a range that the steps divide
    if all(isinstance(value, int) for value in one.values):
        return IntDistribution(low, high, step=step)
    return FloatDistribution(float(low), float(high), step=float(step))
