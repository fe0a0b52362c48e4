"""What a person sees while a search goes on: a line per trial that has ended, and a table."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from sweeps.search.spec import Search
from sweeps.search.study import LossStudy
from sweeps.search.tables import ENDED, Row, best_rows, trial_rows, write_trials
from sweeps.workers.estimate import Speed, remember, speed_of
from sweeps.workers.progress import PLAIN_EVERY_S, Display, minutes, steps_done

if TYPE_CHECKING:
    from sweeps.search.controller import Controller, OpenTrial


@dataclass
class SearchProgress:
    """The state of a search, and its display. trials.parquet is written anew whenever a trial ends."""

    search: Search
    studies: Mapping[str, LossStudy]
    console: Console
    speed: Speed
    controller: "Controller | None" = None
    read: float = 0.0

    def __post_init__(self) -> None:
        self.display = Display(self.console, self.table)
        self.refresh()

    def refresh(self) -> None:
        """Read all trials, and write their table."""
        self.read = time.monotonic()
        self.rows: Sequence[Row] = trial_rows(self.search, self.studies)
        write_trials(self.search, self.rows)

    def update(self, controller: "Controller", trial: "OpenTrial | None") -> None:
        """Take in that a trial has ended, or that time has passed, in which others may have ended elsewhere."""
        self.controller = controller
        if trial is not None or time.monotonic() - self.read > PLAIN_EVERY_S:
            self.refresh()
        if trial is not None:
            row = next(row for row in self.rows if (row["loss"], row["trial"]) == (trial.loss, trial.asked.index))
            if row["state"] == "finished":  # what it took corrects the estimate, and is kept for later plans
                run = trial.runs[-1]
                found = speed_of(run.folder, run.config, wall_s=0.0, source="a run on this machine")
                self.speed = Speed(**{**vars(found), "start_s": self.speed.start_s})
                remember(self.search.typical_config(), self.speed)
            self.console.print(f"{line_of(row)} ({self.count()})")
        self.display.tick()

    def count(self) -> str:
        """How many trials have ended, and how long the others take at the measured pace."""
        left = sum(row["state"] not in ENDED for row in self.rows) * len(self.search.seeds)
        seconds = left * self.speed.seconds(self.search.typical_config())
        slots = 1
        if self.controller:
            done = [run for trial in self.controller.open for run in trial.runs if run.state() == "finished"]
            seconds -= len(done) * self.speed.seconds(self.search.typical_config())
            seconds -= sum(steps_done(attempt) * self.speed.step_s for attempt in self.controller.running)
            slots = max(1, len(self.controller.slots))
        ended = f"{len(self.rows) - left // len(self.search.seeds)} of {len(self.rows)} trials"
        return f"{ended}, {minutes(max(0.0, seconds) / slots)} left"

    def table(self) -> Table:
        """A line per loss."""
        table = Table(title=self.count(), title_justify="left")
        for column in ("loss", "trials", "running", "best so far"):
            table.add_column(column)
        running = self.controller.running if self.controller else {}
        for loss in self.search.losses:
            rows = [row for row in self.rows if row["loss"] == loss]
            going = [
                f"{attempt.run.name.removeprefix(f'{loss}-')}: {steps_done(attempt)}/{attempt.run.config.run.steps}"
                for attempt, (_, trial) in running.items()
                if trial.loss == loss
            ]
            table.add_row(loss, tally(rows), ", ".join(going), best_line(rows, loss))
        return table


def tally(rows: Sequence[Row]) -> str:
    """Trials ended, and how those ended that have no value."""
    counts = {state: sum(row["state"] == state for row in rows) for state in ENDED}
    without = [f"{count} {state}" for state, count in counts.items() if count and state != "finished"]
    return ", ".join([f"{sum(counts.values())}/{len(rows)}", *without])


def best_line(rows: Sequence[Row], loss: str) -> str:
    """The best feasible trial's value and settings."""
    row = best_rows(rows).get(loss)
    return "" if row is None else f"{row['value']:.3f}: {values_line(row)}"


def line_of(row: Mapping[str, Any]) -> str:
    """What became of a trial."""
    name = f"{row['loss']} trial {row['trial']}"
    if row["state"] != "finished":
        return f"{name}: {row['state']}: {row['reason']}; {values_line(row)}"
    seeds = " ".join(f"{value:.3f}" for value in row["values"])
    beyond = "" if row["feasible"] else " (beyond a limit)"
    return f"{name}: accuracy {row['value']:.3f} [{seeds}]{beyond}, {values_line(row)}"


def values_line(row: Mapping[str, Any]) -> str:
    """The searched settings of a trial."""
    values = {name.removeprefix("param."): value for name, value in row.items() if name.startswith("param.")}
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
