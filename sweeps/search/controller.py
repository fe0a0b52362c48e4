"""The controller: asks for trials, runs them in this host's slots, and tells what came of them.

Nothing that it knows is in its memory alone. Which trials there are is in the storage, what they did is in their run
folders; so it can be killed at any moment, and the next one goes on from what it finds.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness import HarnessError, memory_kills, tree_of, write_json
from sweeps.search.spec import Caps, Search
from sweeps.search.study import BEAT_S, Asked, FrozenTrial, LossStudy
from sweeps.search.trials import evaluations, recorded_otherwise, spent, trial_facts
from sweeps.study.folder import PlannedRun, set_aside
from sweeps.workers.attempts import Attempt, latest_metrics
from sweeps.workers.endings import Ending, ending_of
from sweeps.workers.sessions import GRACE_S
from sweeps.workers.slots import POLL_S, Slot, stop_all

MOST_DEATHS = 3  # of a trial's processes, after which it is not started again
HELD_S = 20.0  # before a run is tried again whose folder another process holds
LOOK_S = 5.0  # between looks for trials whose controllers died


@dataclass(eq=False)
class OpenTrial:
    """A trial that this controller runs."""

    loss: str
    asked: Asked
    runs: Sequence[PlannedRun]
    todo: list[PlannedRun]  # not finished, and not running now
    deaths: int
    outcome: tuple[str, str] | None = None  # state and reason, as soon as it is known to have no value
    not_before: float = 0.0  # of the clock, where another process holds a run's folder
    given_up: float | None = None  # since when its other runs are asked to stop
    reported: int = 0  # evaluations of the first seed that the pruner has seen


@dataclass
class Controller:
    """One search on one host."""

    search: Search
    studies: Mapping[str, LossStudy]
    slots: Sequence[Slot]
    caps: Caps
    say: Callable[[str], None]
    on_trial: Callable[["Controller", OpenTrial | None], None]  # when one has ended, and now and then with None
    open: list[OpenTrial] = field(default_factory=list)
    running: dict[Attempt, tuple[Slot, OpenTrial]] = field(default_factory=dict)
    tokens: float = 0.0  # of ended trials, here and elsewhere
    started: float = field(default_factory=time.monotonic)
    looked: float = 0.0
    beaten: float = 0.0
    kills: int = field(default_factory=memory_kills)

    def run(self) -> str | None:
        """Run trials until none is left; which cap ended it before, or None. Leaves no process behind."""
        try:
            while True:
                self.look()
                if reason := self.cap_reached():
                    return reason
                self.fill_slots()
                self.settle()
                self.prune()
                self.conclude()
                self.beat()
                self.on_trial(self, None)
                if not self.open and all(trial.state.is_finished() for trial in self.trials()):
                    return None
                time.sleep(POLL_S)
        finally:
            stop_all(self.slots)
            for trial in self.open:  # so that the next controller need not wait for its heartbeat to grow old
                self.studies[trial.loss].lose(trial.asked.trial._trial_id)

    def trials(self) -> list[FrozenTrial]:
        """Those of all losses, as they now are."""
        return [trial for study in self.studies.values() for trial in study.trials()]

    def look(self) -> None:
        """Now and then: make the trials that are missing, also those whose controllers died, and count tokens."""
        if self.looked and time.monotonic() - self.looked < LOOK_S:
            return
        self.looked = time.monotonic()
        for loss, study in self.studies.items():
            study.make_trials(self.search.trials, self.search.design(loss))
        self.tokens = sum(trial.user_attrs.get("facts", {}).get("generated_tokens", 0) for trial in self.trials())

    def fill_slots(self) -> None:
        """Give every free slot something to do, trials that are under way first."""
        busy = [slot for slot, _ in self.running.values()]
        for slot in [slot for slot in self.slots if slot not in busy]:
            trial = next((trial for trial in self.open if self.runnable(trial)), None) or self.next_trial()
            if trial is None:
                return
            if trial.todo:
                self.running[slot.start(trial.todo.pop(0))] = (slot, trial)

    def runnable(self, trial: OpenTrial) -> bool:
        """Whether the trial has a run to start. Under a pruner the first seed goes ahead of the others."""
        if trial.outcome or not trial.todo or time.monotonic() < trial.not_before:
            return False
        return self.search.pruner.name == "none" or all(other is not trial for _, other in self.running.values())

    def next_trial(self) -> OpenTrial | None:
        """A new trial, of the loss that has the fewest under way; what an earlier controller finished of it is kept."""
        for loss in sorted(self.studies, key=lambda loss: sum(trial.loss == loss for trial in self.open)):
            asked = self.studies[loss].ask(self.search.spaces[loss], self.search.sampler_seed)
            if asked is None:
                continue
            runs = self.search.runs(loss, asked.index, asked.values)
            for run in runs:
                run.config_file.parent.mkdir(exist_ok=True)
                write_json(run.config_file, tree_of(run.config))
                if recorded_otherwise(run):  # a storage that was replaced gives a trial other settings
                    set_aside(run)
            todo = [run for run in runs if run.state() != "finished"]
            trial = OpenTrial(loss, asked, runs, todo, asked.trial.user_attrs.get("deaths", 0))
            self.open.append(trial)
            return trial
        return None

    def settle(self) -> None:
        """Take in what has ended."""
        for slot, trial in list(self.running.values()):
            if trial.given_up and time.monotonic() - trial.given_up > GRACE_S:
                self.free(slot)  # it was asked to stop, and does not
        for attempt in [attempt for attempt in self.running if attempt.process.poll() is not None]:
            slot, trial = self.running.pop(attempt)
            self.free(slot)
            kills, self.kills = self.kills, memory_kills()
            self.take_in(trial, attempt.run, ending_of(attempt.run, attempt.process.poll() or 0, self.kills > kills))

    def free(self, slot: Slot) -> None:
        """See that nothing of what ran in the slot is left; one where something is, is not used again."""
        try:
            slot.clear()
        except HarnessError as error:
            self.slots = [other for other in self.slots if other is not slot]
            self.say(f"{slot.name} is not used any more: {error}")
            if not self.slots:
                raise

    def take_in(self, trial: OpenTrial, run: PlannedRun, ending: Ending) -> None:
        """What a run's end means for its trial. Raises HarnessError where it ends the search."""
        if ending.kind in ("wrong_use", "disk_full"):
            raise HarnessError(
                f"{run.name}: {ending.reason}: the search ends; mend it, and start the same command again"
            )
        if ending.kind == "finished":
            if difference := recorded_otherwise(run):
                raise HarnessError(f"{run.folder}: it was asked for {difference}: its trial is not what it says")
        elif ending.kind in ("infeasible", "failed"):
            self.give_up(trial, ending.kind, str(ending.reason))
        elif ending.kind == "held":
            trial.not_before = time.monotonic() + HELD_S
            trial.todo.insert(0, run)
            self.say(f"{run.name}: {ending.reason}; tried again in {HELD_S:.0f} s")
        elif trial.outcome is None:
            trial.deaths += 1
            trial.asked.note(deaths=trial.deaths)
            self.say(f"{run.name}: {ending.reason}; started again at most {MOST_DEATHS} times, this was {trial.deaths}")
            if trial.deaths > MOST_DEATHS:
                self.give_up(trial, "failed", f"its processes died {trial.deaths} times: {ending.reason}")
            else:
                trial.todo.insert(0, run)

    def give_up(self, trial: OpenTrial, state: str, reason: str) -> None:
        """The trial will have no value: ask its other runs to stop."""
        trial.outcome = trial.outcome or (state, reason)
        trial.given_up = trial.given_up or time.monotonic()
        trial.todo.clear()
        for slot, other in self.running.values():
            if other is trial:
                slot.ask_to_stop()

    def prune(self) -> None:
        """Show the pruner the evaluations of every first seed, and stop the trials that it wants to."""
        if self.search.pruner.name == "none":
            return
        for trial in [trial for trial in self.open if trial.outcome is None]:
            for step, accuracy in evaluations(trial.runs[0], trial.reported):
                trial.reported += 1
                if trial.asked.report(step, accuracy) and step < trial.runs[0].config.run.steps:
                    self.give_up(trial, "pruned", f"accuracy {accuracy:.3f} of the first seed after {step} steps")
                    break

    def conclude(self) -> None:
        """Tell the storage of every trial that has nothing running and nothing left to run."""
        at_work = [trial for _, trial in self.running.values()]
        for trial in [trial for trial in self.open if trial not in at_work and not trial.todo]:
            study, limits = self.studies[trial.loss], self.search.limits
            if trial.outcome:
                state, reason = trial.outcome
                trial.asked.note(reason=reason, facts=spent(trial.runs))
                study.tell(trial.asked, None, limits.unknown(), state)
            else:
                facts = trial_facts(trial.runs)
                trial.asked.note(facts=facts)
                study.tell(trial.asked, sum(facts["values"]) / len(trial.runs), limits.excess(facts), "finished")
            self.open.remove(trial)
            self.on_trial(self, trial)

    def beat(self) -> None:
        """Show other controllers that this one lives."""
        if time.monotonic() - self.beaten > BEAT_S:
            self.beaten = time.monotonic()
            for trial in self.open:
                self.studies[trial.loss].beat(trial.asked.trial._trial_id)

    def cap_reached(self) -> str | None:
        """Which cap has been reached, if one has."""
        caps, hours = self.caps, (time.monotonic() - self.started) / 3600
        if caps.hours is not None and hours >= caps.hours:
            return f"--max_hours {caps.hours:g}"
        if caps.tokens is None:
            return None
        at_work = [latest_metrics(run.folder) or {} for trial in self.open for run in trial.runs]
        tokens = self.tokens + sum(metrics.get("ledger/generated_tokens", 0) for metrics in at_work)
        return f"--max_tokens {caps.tokens:g}" if tokens >= caps.tokens else None
