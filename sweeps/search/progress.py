"""What a person sees while a search goes on: a live table on a terminal, a plain line per event elsewhere."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sweeps.search.spec import Search
from sweeps.search.study import LossStudy
from sweeps.search.tables import ENDED, Row, best_rows, trial_rows, write_trials
from sweeps.workers.estimate import Speed, remember, speed_of
from sweeps.workers.progress import PLAIN_EVERY_S, minutes, steps_done

if TYPE_CHECKING:
    from sweeps.search.controller import Controller, OpenTrial


@dataclass
class SearchProgress:
    """The state of a search, and its display."""

    search: Search
    studies: Mapping[str, LossStudy]
    console: Console
    slots: int
    speed: Speed | None
    live: Live | None = None
    rows: Sequence[Row] = ()
    drawn: float = 0.0
    refreshed: float = 0.0

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the table while what is inside goes on."""
        self.rows = trial_rows(self.search, self.studies)
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, refresh_per_second=2) as self.live:
            yield

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(text)

    def update(self, controller: "Controller", trial: "OpenTrial | None") -> None:
        """Take in that a trial has ended, or that time has passed."""
        if trial is not None:
            self.rows = trial_rows(self.search, self.studies)
            write_trials(self.search, self.rows)
            row = next(row for row in self.rows if (row["loss"], row["trial"]) == (trial.loss, trial.asked.index))
            if row["state"] == "finished":
                self.measure(trial)
            self.say(f"{line_of(row)} ({self.count()}, {self.left(controller)})")
        if not controller.alone and time.monotonic() - self.refreshed > PLAIN_EVERY_S:
            self.refreshed = time.monotonic()  # trials end on other hosts too
            self.rows = trial_rows(self.search, self.studies)
            write_trials(self.search, self.rows)
        every = 1.0 if self.live else PLAIN_EVERY_S
        if time.monotonic() - self.drawn > every:
            self.drawn = time.monotonic()
            table = self.table(controller)
            self.live.update(table) if self.live else self.console.print(table)

    def measure(self, trial: "OpenTrial") -> None:
        """Correct the estimate by a finished run, and keep it for later plans."""
        run = trial.runs[-1]
        before = self.speed
        found = speed_of(run.folder, run.config, wall_s=0.0, source="a run on this machine")
        start_s = before.start_s if before else 0.0
        self.speed = Speed(**{**vars(found), "start_s": start_s})
        remember(self.search.typical_config(), self.speed)

    def count(self) -> str:
        """How many trials have ended."""
        return f"{sum(row['state'] in ENDED for row in self.rows)} of {len(self.rows)} trials"

    def left(self, controller: "Controller") -> str:
        """Time left at the measured pace."""
        if self.speed is None:
            return "time left unknown"
        return f"{minutes(seconds_left(self.search, self.rows, self.speed, controller) / self.slots)} left"

    def table(self, controller: "Controller") -> Table:
        """A line per loss."""
        table = Table(title=f"{self.count()}, {self.left(controller)}", title_justify="left")
        for column in ("loss", "trials", "running", "best so far"):
            table.add_column(column)
        for loss in self.search.losses:
            rows = [row for row in self.rows if row["loss"] == loss]
            going = [
                f"{attempt.run.name.removeprefix(f'{loss}-')}: {steps_done(attempt)}/{attempt.run.config.run.steps}"
                for attempt, (_, trial) in controller.running.items()
                if trial.loss == loss
            ]
            table.add_row(loss, tally(rows), ", ".join(going), best_line(rows, loss))
        return table


def seconds_left(search: Search, rows: Sequence[Row], speed: Speed, controller: "Controller") -> float:
    """Slot-seconds of the runs that are left, those under way by their steps."""
    whole = speed.seconds(search.typical_config())
    open_rows = [row for row in rows if row["state"] not in ENDED]
    left = len(open_rows) * len(search.seeds) * whole
    for trial in controller.open:
        left -= sum(run.state() == "finished" for run in trial.runs) * whole
    return max(0.0, left - sum(steps_done(attempt) * speed.step_s for attempt in controller.running))


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
