"""Optuna's part: which trials there are and which settings each has.

All trials of a search are made at once, waiting, each with its number as `index`; asking takes the next one. So no more
can ever exist than were planned, and which settings a designed sampler gives was settled before anything ran. A trial
whose controller died is failed and made anew under the same index and settings: by Optuna's heartbeat where several
controllers share a database, at the start where the journal is this controller's alone. Where two make the same one,
that with the lower number counts.
"""

import os
import platform
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from harness import HarnessError, UsageError
from sweeps.search.samplers import seed_of
from sweeps.search.spaces import Parameter, Space, Values
from sweeps.tracking.log import with_driver, without_password

BEAT_S, GRACE_S = 15, 60  # between heartbeats; without one for so long a controller is taken for dead
OPEN_ATTEMPTS = 3
Storage = JournalStorage | RDBStorage


def open_storage(url: str | None, folder: Path, attempts: int = OPEN_ATTEMPTS) -> Storage:
    """The storage at the URL, or the journal in the study's folder. Raises UsageError where it cannot be opened."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is None:
        return open_journal(folder / "optuna.journal")
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


def open_journal(journal: Path) -> JournalStorage:
    """The journal, of which no other process may be a writer: a torn last line of a killed one is moved beside.

    Optuna 5 glues the next line onto a torn one, after which the journal cannot be read.
    """
    for leftover in journal.parent.glob(f"{journal.name}.lock*"):  # a symlink; a writer that was killed left it
        leftover.unlink()
    content = journal.read_bytes() if journal.is_file() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        journal.with_name(f"{journal.name}.torn-{time.time_ns()}").write_bytes(content[whole:])
        os.truncate(journal, whole)
    try:
        return JournalStorage(JournalFileBackend(str(journal)))
    except (ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"{journal}: expected JSON in every line, got: {error}: restore it from a backup") from None


@contextmanager
def storage_errors() -> Iterator[None]:
    """Say in one line that the storage failed: a database that went away is no fault of the search."""
    try:
        yield
    except StorageInternalError as error:
        words = str(error.__cause__ or error).splitlines()[0]
        raise HarnessError(f"the storage failed: {words}: mend it, and start the same command again") from None


@dataclass(frozen=True)
class Asked:
    """A trial that this process is to run."""

    index: int
    values: Values
    trial: optuna.Trial

    def note(self, **facts: Any) -> None:
        """Keep facts with the trial."""
        with suppress(UpdateFinishedTrialError):  # another controller took it, while this one stood still
            for name, value in facts.items():
                self.trial.set_user_attr(name, value)


class LossStudy:
    """The trials of one loss in the storage."""

    def __init__(self, storage: Storage, name: str, sampler: Mapping[str, Any]) -> None:
        self.storage, self.name, self.sampler = storage, name, sampler
        self.study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)

    def claim(self, fingerprint: str, is_ours: bool = False) -> None:
        """Mark the study as this search's. Raises UsageError where it is another's of the same name.

        is_ours: it is known to be this one's, whatever settings the program has had added since it was begun.
        """
        known = self.study.user_attrs.get("search")
        if known is None or (is_ours and known != fingerprint):
            self.study.set_user_attr("search", fingerprint)
        elif known != fingerprint:
            raise UsageError(
                f"--storage: it holds another search named {self.name!r} (other space, seeds, sampler or settings): "
                "give --study_name another name, on every host the same"
            )

    def make_trials(self, count: int, design: Sequence[Values] | None) -> None:
        """Make the trials that are missing: those never made, and those whose controllers died."""
        if isinstance(self.storage, RDBStorage):
            optuna.storages.fail_stale_trials(self.study)
        made = self.of_index()
        for index in range(count):
            found = made.get(index, [])
            if not all(map(is_lost, found)):
                continue
            known = dict(design[index]) if design is not None else {}
            for lost in found:
                known |= lost.params
            deaths = max((lost.user_attrs.get("deaths", 0) for lost in found), default=0)
            self.study.enqueue_trial(known, user_attrs={"index": index, "deaths": deaths})

    def fail_running(self) -> int:
        """Fail the trials under way, which no living controller can run; how many there were."""
        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        for trial in running:
            self.lose(trial._trial_id)
        return len(running)

    def ask(self, space: Space) -> Asked | None:
        """The next waiting trial with its settings, or None."""
        while waiting := self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.sampler = self.sampler_for(waiting[0].user_attrs["index"])
            self.beat(waiting[0]._trial_id)  # first: a trial without a heartbeat is never taken for lost
            trial = self.study.ask({name: distribution(one) for name, one in space.searched.items()})
            self.beat(trial._trial_id)
            index = trial.user_attrs.get("index", -1)  # -1: another took the last one, and Optuna made a new trial
            counts = first_that_counts(self.of_index().get(index, []))
            if counts is not None and counts.number == trial.number:
                return Asked(index, {**space.fixed, **trial.params}, trial)
            self.lose(trial._trial_id)
        return None

    def sampler_for(self, index: int) -> optuna.samplers.BaseSampler:
        """The sampler of one trial; of a design, whose values are fixed beforehand, it is never asked for any."""
        # hosts that ask at the same time must not draw the same
        place = f"{platform.node()} {os.getpid()}" if isinstance(self.storage, RDBStorage) else ""
        seed = seed_of(self.sampler["seed"], self.name.rpartition("/")[2], index, place)
        return (
            TPESampler(seed=seed, **self.sampler["arguments"]) if self.sampler["name"] == "tpe" else RandomSampler(seed)
        )

    def tell(self, asked: Asked, value: float | None, constraints: Mapping[str, float], state: str) -> None:
        """End a trial: `finished` with its value, else `infeasible` or `failed` without."""
        asked.note(state=state, ended=time.time())
        with suppress(UpdateFinishedTrialError):
            for name, excess in {**constraints, "infeasible": 1.0 if state == "infeasible" else -1.0}.items():
                asked.trial.set_constraint(name, excess)
        without = TrialState.FAIL if state == "failed" else TrialState.PRUNED  # TPE learns from what it calls pruned
        self.study.tell(asked.trial, value, without if value is None else None, skip_if_finished=True)

    def beat(self, trial_id: int) -> None:
        """Show other controllers that this one lives."""
        if isinstance(self.storage, RDBStorage):
            self.storage.record_heartbeat(trial_id)

    def lose(self, trial_id: int) -> None:
        """Fail a trial that is not to count, unless it has ended meanwhile."""
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def of_index(self) -> dict[int, list[FrozenTrial]]:
        """Every trial by the index under which it was made."""
        made: dict[int, list[FrozenTrial]] = {}
        for trial in self.trials():
            if "index" in trial.user_attrs:
                made.setdefault(trial.user_attrs["index"], []).append(trial)
        return made

    def counting_all(self, count: int) -> list[FrozenTrial | None]:
        """Per index the first trial that was not lost, otherwise the latest lost one; None if there was none."""
        made = self.of_index()
        return [first_that_counts(made.get(index, [])) for index in range(count)]

    def trials(self) -> list[FrozenTrial]:
        """All trials as they now are."""
        return self.study.get_trials(deepcopy=False)


def first_that_counts(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The first trial that was not lost, else the last that was, if any."""
    return next((trial for trial in trials if not is_lost(trial)), trials[-1] if trials else None)


def is_lost(trial: FrozenTrial) -> bool:
    """Whether the trial ended without counting."""
    return trial.state == TrialState.FAIL and trial.user_attrs.get("state") != "failed"


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
