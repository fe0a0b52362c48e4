"""Optuna's part: which trials there are and which settings each has. The only module that imports optuna.

All trials of a search are made at once, waiting, each with its number as `index`; asking takes the next one. So no more
can ever exist than were planned, and which settings a designed sampler gives was settled before anything ran. A trial
whose controller died is failed (of those who try, one alone succeeds) and made anew under the same index and settings;
where two controllers make the same one, that with the lower number counts.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from harness import HarnessError, UsageError
from sweeps.search.designs import seed_of
from sweeps.search.samplers import Spec
from sweeps.search.spaces import Parameter, Space, Values
from sweeps.tracking.addresses import with_driver, without_password
from sweeps.workers.holders import Holder

__all__ = [
    "BEAT_S",
    "VERSION",
    "Asked",
    "FrozenTrial",
    "LossStudy",
    "TrialState",
    "is_lost",
    "open_storage",
    "storage_errors",
]

VERSION = optuna.__version__
LEASE_S = 60.0  # a holder on another host whose heartbeat has not changed for so long is taken for dead
BEAT_S = 15.0
OPEN_ATTEMPTS = 3

optuna.logging.set_verbosity(optuna.logging.ERROR)


def open_storage(url: str | None, folder: Path, attempts: int = OPEN_ATTEMPTS) -> optuna.storages.BaseStorage:
    """The storage at the URL, or the journal in the study's folder. Raises UsageError where it cannot be opened."""
    if url is None:
        return optuna.storages.JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(with_driver(url), engine_kwargs=options)
    except ImportError as error:
        raise UsageError(f"--storage {without_password(url)}: its driver is not installed: {error}") from None
    except Exception as error:  # sqlalchemy raises whatever the driver does
        if attempts == 1:
            words = str(error).splitlines()[0]
            raise UsageError(f"--storage {without_password(url)}: could not be opened: {words}") from None
    time.sleep(1.0)  # two hosts that make its tables at once are in each other's way once
    return open_storage(url, folder, attempts - 1)


@dataclass(frozen=True)
class Asked:
    """A trial that this process is to run."""

    index: int
    values: Values
    trial: optuna.Trial

    def note(self, **facts: Any) -> None:
        """Keep facts with the trial."""
        with suppress(UpdateFinishedTrialError):  # another controller took it: `still_held` says so
            for name, value in facts.items():
                self.trial.set_user_attr(name, value)

    def exceed(self, constraints: Mapping[str, float]) -> None:
        """Say how far beyond each limit the trial is."""
        with suppress(UpdateFinishedTrialError):
            for name, excess in constraints.items():
                self.trial.set_constraint(name, excess)

    def report(self, step: int, value: float) -> bool:
        """Tell the pruner of the first seed's accuracy at a step; whether the trial should stop."""
        with suppress(UpdateFinishedTrialError):
            self.trial.report(value, step)
        return self.trial.should_prune()


class LossStudy:
    """The trials of one loss in the storage."""

    def __init__(self, storage: optuna.storages.BaseStorage, name: str, sampler: Spec, pruner: Spec) -> None:
        self.storage, self.name, self.sampler = storage, name, sampler
        self.is_shared = isinstance(storage, optuna.storages.RDBStorage)
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: each trial gets its own
            pruner=make_pruner(pruner),
        )
        self.beats: dict[int, tuple[Any, float]] = {}  # what others' heartbeats said, and since when

    def claim(self, fingerprint: str) -> None:
        """Mark the study as this search's. Raises UsageError where it is another's of the same name."""
        known = self.study.user_attrs.get("search")
        if known is None:
            self.study.set_user_attr("search", fingerprint)
        elif known != fingerprint:
            raise UsageError(
                f"--storage: it holds another search named {self.name!r} (other space, seeds, sampler or settings): "
                "give --study_name another name, on every host the same"
            )

    def make_trials(self, count: int, design: Sequence[Values] | None) -> None:
        """Make the trials that are missing: those never made, and those whose controllers died."""
        made = self.of_index()
        for index in range(count):
            trials = made.get(index, [])
            lost = [trial for trial in trials if is_lost(trial)]
            if len(lost) < len(trials):
                continue
            known = design[index] if design is not None else {}
            for trial in lost:
                known = {**known, **trial.params}
            deaths = max((trial.user_attrs.get("deaths", 0) for trial in lost), default=0)
            self.study.enqueue_trial(known, user_attrs={"index": index, "deaths": deaths})

    def ask(self, space: Space, key: int) -> Asked | None:
        """The next waiting trial with its settings, or None. `key`: the search's seed."""
        while waiting := self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            index = waiting[0].user_attrs["index"]
            # hosts that ask at the same time must not draw the same
            place = str(Holder.this()) if self.is_shared else ""
            self.study.sampler = make_sampler(self.sampler, seed_of(key, self.name.rpartition("/")[2], index, place))
            trial = self.study.ask({name: distribution(one) for name, one in space.searched.items()})
            if "index" not in trial.user_attrs:  # another took the last one, and Optuna made a new trial
                self.lose(trial.number, trial._trial_id, "surplus")
                continue
            index = trial.user_attrs["index"]
            trial.set_user_attr("holder", Holder.this().written())
            counts = first_that_counts(self.of_index()[index])
            if counts is None or counts.number != trial.number:
                self.lose(trial.number, trial._trial_id, "made twice")
                continue
            return Asked(index, {**space.fixed, **trial.params}, trial)
        return None

    def tell(self, asked: Asked, value: float | None, constraints: Mapping[str, float], state: str) -> None:
        """End a trial: `finished` with its value, else `pruned`, `infeasible` or `failed` without."""
        asked.note(state=state, ended=time.time())
        asked.exceed({**constraints, "infeasible": 1.0 if state == "infeasible" else -1.0})
        if state == "infeasible" and self.sampler.name == "gp":
            value = self.worst()  # a Gaussian process learns from trials with a value alone
        if value is not None:
            self.study.tell(asked.trial, value, skip_if_finished=True)
        else:
            without = TrialState.FAIL if state == "failed" else TrialState.PRUNED
            self.study.tell(asked.trial, state=without, skip_if_finished=True)

    def worst(self) -> float:
        """The lowest value of all trials so far, or 0."""
        values = [trial.value for trial in self.trials() if trial.state == TrialState.COMPLETE]
        return min((value for value in values if value is not None), default=0.0)

    def take_over(self, alone: bool, own: Collection[int] = ()) -> bool:
        """Fail the trials whose controllers are dead, so that they can be made anew; whether there were any.

        `alone`: no other controller can be at work. `own`: the numbers of the trials that this one runs.
        """
        others = [trial for trial in self.running() if trial.number not in own]
        lost = [trial for trial in others if alone or self.is_abandoned(trial)]
        for trial in lost:
            self.lose(trial.number, trial._trial_id, "its controller died")
        return bool(lost)

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether the trial's controller is dead: known at once of this host, by a heartbeat that stands still else."""
        holder = Holder.read(trial.user_attrs.get("holder"))
        if holder is not None and holder.is_here:
            return holder == Holder.this() or not holder.lives()
        beat = (trial.user_attrs.get("holder"), trial.user_attrs.get("beat"))
        seen, since = self.beats.get(trial.number, (None, 0.0))
        if beat != seen:
            self.beats[trial.number] = (beat, time.monotonic())
            return False
        return time.monotonic() - since > LEASE_S

    def lose(self, number: int, trial_id: int, why: str) -> None:
        """Fail a trial that is not to count, unless it has ended meanwhile."""
        try:
            self.storage.set_trial_user_attr(trial_id, "lost", why)
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            self.beats.pop(number, None)

    def still_held(self, asked: Asked) -> bool:
        """Whether the trial is still this process's: another host may have taken it while this one stood still."""
        return self.storage.get_trial(asked.trial._trial_id).state == TrialState.RUNNING

    def of_index(self) -> dict[int, list[FrozenTrial]]:
        """Every trial by the index under which it was made."""
        made: dict[int, list[FrozenTrial]] = {}
        for trial in self.trials():
            if "index" in trial.user_attrs:
                made.setdefault(trial.user_attrs["index"], []).append(trial)
        return made

    def counting_all(self, count: int) -> dict[int, FrozenTrial | None]:
        """Per index the first completed trial, otherwise the latest lost one; None if there was none."""
        made = self.of_index()
        return {index: first_that_counts(made.get(index, [])) for index in range(count)}

    def running(self) -> list[FrozenTrial]:
        """The trials under way, here or elsewhere."""
        return [trial for trial in self.trials() if trial.state == TrialState.RUNNING]

    def trials(self) -> list[FrozenTrial]:
        """All trials as they now are."""
        return self.study.get_trials(deepcopy=False)

    def importance(self) -> dict[str, dict[str, float]]:
        """Each method's importance of the parameters. Raises ValueError or RuntimeError with too few trials."""
        evaluators = {
            "fanova": optuna.importance.FanovaImportanceEvaluator(seed=0),
            "ped_anova": optuna.importance.PedAnovaImportanceEvaluator(),
        }
        return {
            name: dict(optuna.importance.get_param_importances(self.study, evaluator=evaluator))
            for name, evaluator in evaluators.items()
        }


def first_that_counts(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The first trial that was not lost, else the last that was, if any."""
    return next((trial for trial in trials if not is_lost(trial)), trials[-1] if trials else None)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Say in one line that the storage failed: a database that went away is no fault of the search."""
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        words = str(error.__cause__ or error).splitlines()[0]
        raise HarnessError(f"the storage failed: {words}: mend it, and start the same command again") from None


def is_lost(trial: FrozenTrial) -> bool:
    """Whether the trial ended without counting."""
    return trial.state == TrialState.FAIL and "lost" in trial.user_attrs


def make_sampler(spec: Spec, seed: int) -> optuna.samplers.BaseSampler:
    """The sampler for one trial; a designed one's values are fixed beforehand, so it is never asked for any."""
    if spec.name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, **spec.arguments)
    if spec.name == "gp":
        return optuna.samplers.GPSampler(seed=seed, **spec.arguments)
    return optuna.samplers.RandomSampler(seed=seed)


def make_pruner(spec: Spec) -> optuna.pruners.BasePruner:
    """The pruner with its arguments."""
    if spec.name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(**spec.arguments)
    return optuna.pruners.NopPruner()


def distribution(one: Parameter) -> BaseDistribution:
    """The parameter's range as Optuna has it."""
    if one.kind == "choice":
        return CategoricalDistribution(one.values)
    if one.kind == "log":
        return FloatDistribution(float(one.values[0]), float(one.values[1]), log=True)
    low, step = one.values[0], one.values[2]
    high = (one.listed or ())[-1]  # Optuna wants a range that the steps divide
    if all(isinstance(value, int) for value in one.values):
        return IntDistribution(low, high, step=step)
    return FloatDistribution(float(low), float(high), step=float(step))
