"""The controller: asks for trials, runs them in this host's places, and tells what came of them.

Nothing that it knows is in its memory alone. Which trials there are is in the storage, what they did is in their run
folders; so it can be killed at any moment, and the next one goes on from what it finds.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import optuna

from harness import HarnessError, doing, flatten, say, tree_of
from sweeps.search.options import Search
from sweeps.search.study import LossStudy
from sweeps.search.tables import Row, best_rows, line_of, spent, time_left, trial_facts, trial_rows, write_trials
from sweeps.study.folder import PlannedRun, read_json, set_aside
from sweeps.workers.attempts import Ending
from sweeps.workers.pool import Pool
from sweeps.workers.progress import steps_of

READ_S = 30.0  # between looks at what has ended elsewhere
LOOK_S = 5.0  # between signs of life, and looks for trials whose controllers died


@dataclass(eq=False)
class OpenTrial:
    """A trial that this controller runs."""

    loss: str
    asked: optuna.Trial
    runs: Sequence[PlannedRun]
    todo: list[PlannedRun]  # not begun here, and not finished before


@dataclass
class Controller:
    """One search on one host."""

    search: Search
    studies: Mapping[str, LossStudy]
    pool: Pool
    rows: Sequence[Row] = ()  # of all trials, as trials.parquet has them
    read: float = 0.0  # when they were read
    open: list[OpenTrial] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    looked: float = 0.0

    def run(self) -> bool:
        """Run trials until none is left, or for --max_hours; whether all have ended. Leaves no process behind."""
        try:
            while True:
                self.look()
                ended = self.settle()
                if time.monotonic() - self.started > 3600 * (self.search.max_hours or math.inf):
                    return False
                self.fill_places()
                self.show(ended)
                trials = [trial for study in self.studies.values() for trial in study.trials(self.search.trials)]
                if not self.open and all(trial.state.is_finished() for trial in trials):
                    return True
                self.pool.rest()
        finally:
            self.pool.stop([*self.pool.running, *self.pool.again])
            for trial in self.open:  # so that the next controller need not wait for its heartbeat to grow old
                self.studies[trial.loss].release(trial.asked._trial_id)

    def show(self, ended: Sequence[OpenTrial]) -> None:
        """Write trials.parquet anew when a trial has ended, here or elsewhere, and say it."""
        if ended or not self.rows or time.monotonic() - self.read > READ_S:
            self.read, self.rows = time.monotonic(), trial_rows(self.search, self.studies)
            write_trials(self.search, self.rows)
        left = time_left(self.rows, self.pool.size)
        for trial in ended:
            row = next(row for row in self.rows if (row["loss"], row["trial"]) == (trial.loss, trial.asked.number))
            say(f"{line_of(row)} ({left})")
        best = [f"{loss} best {row['value']:.3f}" for loss, row in best_rows(self.rows).items()]
        doing("; ".join([left, *best, *map(steps_of, self.pool.running)]))

    def look(self) -> None:
        """Now and then: show others that this one lives, and make the trials that are missing."""
        if self.looked and time.monotonic() - self.looked < LOOK_S:
            return
        self.looked = time.monotonic()
        for trial in self.open:
            self.studies[trial.loss].storage.record_heartbeat(trial.asked._trial_id)
        for study in self.studies.values():
            study.make_trials(self.search.trials)

    def fill_places(self) -> None:
        """Give every free place something to do, trials that are under way first."""
        while self.pool.free:
            trial = next((trial for trial in self.open if trial.todo), None) or self.next_trial()
            if trial is None:
                return
            if trial.todo:
                self.pool.start(trial.todo.pop(0))

    def next_trial(self) -> OpenTrial | None:
        """A new trial, of the loss that has the fewest under way; what an earlier controller finished of it is kept."""
        for loss in sorted(self.studies, key=lambda loss: sum(trial.loss == loss for trial in self.open)):
            asked = self.studies[loss].ask(self.search.spaces[loss], self.search.trials)
            if asked is None:
                continue
            runs = self.search.runs(loss, asked.number, self.search.spaces[loss].fixed | asked.params)
            for run in runs:
                run.write_config()
                if is_recorded_otherwise(run):  # a storage that was replaced gives a trial other settings
                    set_aside(run.folder, run.study)
            todo = [run for run in runs if run.state() != "finished"]
            trial = OpenTrial(loss, asked, runs, todo)
            self.open.append(trial)
            return trial
        return None

    def settle(self) -> list[OpenTrial]:
        """Take in the runs that have ended; the trials that ended with them. Raises HarnessError on what ends all."""
        concluded = []
        for run, ending in self.pool.ended():
            if ending.kind == "fatal":
                words = "the search ends; mend it, and start the same command again"
                raise HarnessError(f"{run.name}: {ending.reason}: {words}")
            trial = next((trial for trial in self.open if run in trial.runs), None)
            if trial and ending.kind != "finished":  # the trial will have no value
                self.pool.stop(trial.runs)
                concluded.append(self.conclude(trial, ending))
        at_work = self.pool.running.keys() | self.pool.again.keys()
        done = [trial for trial in self.open if not trial.todo and at_work.isdisjoint(trial.runs)]
        return concluded + [self.conclude(trial) for trial in done]

    def conclude(self, trial: OpenTrial, without_value: Ending | None = None) -> OpenTrial:
        """Tell the storage of a trial of which nothing is left to do; `without_value`: how one of its runs ended."""
        study = self.studies[trial.loss]
        if without_value:
            study.note(trial.asked, reason=without_value.reason, facts=spent(trial.runs))
            study.tell(trial.asked, None, {}, without_value.kind)
        else:
            facts = trial_facts(trial.runs)
            study.note(trial.asked, facts=facts)
            study.tell(trial.asked, fmean(facts["values"]), self.search.excess(facts), "finished")
        self.open.remove(trial)
        return trial


def is_recorded_otherwise(run: PlannedRun) -> bool:
    """Whether the run's folder, if there is one, records other settings than are asked for."""
    recorded = flatten((read_json(run.folder / "config.json") or {}).get("config", {}))
    asked = flatten(tree_of(run.config))
    return any(name != "output_dir" and recorded.get(name, value) != value for name, value in asked.items())
