"""The controller: asks for trials, runs them in this host's places, and tells what came of them.

Nothing that it knows is in its memory alone. Which trials there are is in the storage, what they did is in their run
folders; so it can be killed at any moment, and the next one goes on from what it finds.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from optuna.trial import FrozenTrial

from harness import HarnessError, doing, memory_kills, say
from sweeps.search.options import Search
from sweeps.search.samplers import design
from sweeps.search.study import Asked, LossStudy
from sweeps.search.tables import Row, best_rows, line_of, time_left, trial_rows, write_trials
from sweeps.search.trials import is_recorded_otherwise, spent, trial_facts
from sweeps.study.folder import PlannedRun, set_aside
from sweeps.workers.attempts import Attempt, Ending
from sweeps.workers.pool import Pool
from sweeps.workers.progress import steps_of
from sweeps.workers.sessions import GRACE_S

MOST_DEATHS = 3  # of a trial's processes, after which it is not started again
HELD_S = 20.0  # before a run is tried again whose folder another process holds
READ_S = 30.0  # between looks at what has ended elsewhere
LOOK_S = 5.0  # between signs of life, and looks for trials whose controllers died


@dataclass(eq=False)
class OpenTrial:
    """A trial that this controller runs."""

    loss: str
    asked: Asked
    runs: Sequence[PlannedRun]
    todo: list[PlannedRun]  # not finished, and not running now
    deaths: int
    outcome: tuple[str, str] | None = None  # state and reason, as soon as it is known to have no value
    given_up: float = 0.0  # the time of that: its other runs are asked to stop
    not_before: float = 0.0  # of the clock, where another process holds a run's folder


@dataclass
class Controller:
    """One search on one host."""

    search: Search
    studies: Mapping[str, LossStudy]
    pool: Pool
    rows: Sequence[Row] = ()  # of all trials, as trials.parquet has them
    read: float = 0.0  # when they were read
    open: list[OpenTrial] = field(default_factory=list)
    owner: dict[Attempt, OpenTrial] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    looked: float = 0.0
    kills: int = field(default_factory=memory_kills)

    def run(self) -> bool:
        """Run trials until none is left, or for --max_hours; whether all have ended. Leaves no process behind."""
        try:
            while True:
                self.look()
                self.settle()
                ended = self.conclude()
                if time.monotonic() - self.started > 3600 * (self.search.max_hours or math.inf):
                    return False
                self.fill_places()
                self.show(ended)
                if not self.open and all(trial.state.is_finished() for trial in self.trials()):
                    return True
                self.pool.rest()
        finally:
            self.pool.stop()
            for trial in self.open:  # so that the next controller need not wait for its heartbeat to grow old
                self.studies[trial.loss].lose(trial.asked.trial._trial_id)

    def show(self, ended: Sequence[OpenTrial]) -> None:
        """Write trials.parquet anew when a trial has ended, here or elsewhere, and say it."""
        if ended or not self.rows or time.monotonic() - self.read > READ_S:
            self.read, self.rows = time.monotonic(), trial_rows(self.search, self.studies)
            write_trials(self.search, self.rows)
        left = time_left(self.rows, self.pool.size)
        for trial in ended:
            row = next(row for row in self.rows if (row["loss"], row["trial"]) == (trial.loss, trial.asked.index))
            say(f"{line_of(row)} ({left})")
        best = [f"{loss} best {row['value']:.3f}" for loss, row in best_rows(self.rows).items()]
        doing("; ".join([left, *best, *map(steps_of, self.pool.running)]))

    def trials(self) -> list[FrozenTrial]:
        """Those of all losses, as they now are."""
        return [trial for study in self.studies.values() for trial in study.trials()]

    def look(self) -> None:
        """Now and then: show others that this one lives, and make the trials that are missing."""
        if self.looked and time.monotonic() - self.looked < LOOK_S:
            return
        self.looked = time.monotonic()
        for trial in self.open:
            self.studies[trial.loss].beat(trial.asked.trial._trial_id)
        for loss, study in self.studies.items():
            count, keyed = self.search.trials, (self.search.sampler, self.search.trials, self.search.sampler_seed)
            study.make_trials(count, design(self.search.spaces[loss], *keyed))

    def fill_places(self) -> None:
        """Give every free place something to do, trials that are under way first."""
        while self.pool.free:
            now = time.monotonic()
            ready = (trial for trial in self.open if trial.todo and now >= trial.not_before)
            trial = next(ready, None) or self.next_trial()
            if trial is None:
                return
            if trial.todo:
                self.owner[self.pool.start(trial.todo.pop(0))] = trial

    def next_trial(self) -> OpenTrial | None:
        """A new trial, of the loss that has the fewest under way; what an earlier controller finished of it is kept."""
        for loss in sorted(self.studies, key=lambda loss: sum(trial.loss == loss for trial in self.open)):
            asked = self.studies[loss].ask(self.search.spaces[loss])
            if asked is None:
                continue
            runs = self.search.runs(loss, asked.index, asked.values)
            for run in runs:
                run.write_config()
                if is_recorded_otherwise(run):  # a storage that was replaced gives a trial other settings
                    set_aside(run.folder, run.study)
            todo = [run for run in runs if run.state() != "finished"]
            trial = OpenTrial(loss, asked, runs, todo, asked.trial.user_attrs.get("deaths", 0))
            self.open.append(trial)
            return trial
        return None

    def settle(self) -> None:
        """Take in what has ended. Raises HarnessError where that ends the search."""
        for attempt, trial in self.owner.items():
            if trial.outcome and time.monotonic() - trial.given_up > GRACE_S:
                attempt.session.end()  # it was asked to stop, and does not
        for attempt in self.pool.ended():
            kills, self.kills = self.kills, memory_kills()
            ending, trial = attempt.ending(self.kills > kills), self.owner.pop(attempt)
            if ending.kind in ("wrong_use", "disk_full"):
                words = "the search ends; mend it, and start the same command again"
                raise HarnessError(f"{attempt.run.name}: {ending.reason}: {words}")
            if ending.kind != "finished" and not trial.outcome:
                self.take_in(trial, attempt.run, ending)

    def take_in(self, trial: OpenTrial, run: PlannedRun, ending: Ending) -> None:
        """What the end of a run that did not finish means for its trial."""
        if ending.kind in ("infeasible", "failed"):
            self.give_up(trial, ending.kind, str(ending.reason))
            return
        trial.todo.insert(0, run)
        if ending.kind == "held":
            trial.not_before = time.monotonic() + HELD_S
            say(f"{run.name}: {ending.reason}; tried again in {HELD_S:.0f} s")
            return
        trial.deaths += 1
        trial.asked.note(deaths=trial.deaths)
        say(f"{run.name}: {ending.reason}; started again at most {MOST_DEATHS} times, this was {trial.deaths}")
        if trial.deaths > MOST_DEATHS:
            self.give_up(trial, "failed", f"its processes died {trial.deaths} times: {ending.reason}")

    def give_up(self, trial: OpenTrial, state: str, reason: str) -> None:
        """The trial will have no value: ask its other runs to stop."""
        trial.outcome, trial.given_up = (state, reason), time.monotonic()
        trial.todo.clear()
        for attempt, other in self.owner.items():
            if other is trial:
                attempt.session.ask_to_end()

    def conclude(self) -> list[OpenTrial]:
        """Tell the storage of the trials that have nothing running and nothing left to run; which they are."""
        ended = [trial for trial in self.open if trial not in self.owner.values() and not trial.todo]
        for trial in ended:
            study = self.studies[trial.loss]
            if trial.outcome:
                state, reason = trial.outcome
                trial.asked.note(reason=reason, facts=spent(trial.runs))
                study.tell(trial.asked, None, {}, state)
            else:
                facts = trial_facts(trial.runs)
                trial.asked.note(facts=facts)
                study.tell(trial.asked, fmean(facts["values"]), self.search.excess(facts), "finished")
            self.open.remove(trial)
        return ended
