"""What a person sees of a search while it goes on: a line per trial that has ended, and how far all are."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from sweeps.search.controller import OpenTrial
from sweeps.search.spec import Search
from sweeps.search.study import LossStudy
from sweeps.search.tables import ENDED, Row, best_rows, trial_rows, write_trials
from sweeps.workers.attempts import Attempt
from sweeps.workers.progress import PLAIN_EVERY_S, Display, minutes, steps_of


@dataclass
class SearchProgress:
    """The state of a search, and its display. trials.parquet is written anew whenever a trial ends."""

    search: Search
    studies: Mapping[str, LossStudy]
    console: Console
    slots: int  # runs at a time
    running: Sequence[Attempt] = ()

    def __post_init__(self) -> None:
        self.display = Display(self.console, self.text)
        self.refresh()

    def refresh(self) -> None:
        """Read all trials, and write their table."""
        self.read = time.monotonic()
        self.rows: Sequence[Row] = trial_rows(self.search, self.studies)
        write_trials(self.search, self.rows)

    def text(self) -> str:
        """The trials left, the best of each loss, and the runs under way with their steps."""
        best = [f"{loss} best {row['value']:.3f}" for loss, row in best_rows(self.rows).items()]
        return "; ".join([time_left(self.rows, self.slots), *best, *map(steps_of, self.running)])

    def update(self, trial: OpenTrial | None, running: Iterable[Attempt]) -> None:
        """Take in that a trial has ended, or that time has passed, in which others may have ended elsewhere."""
        self.running = list(running)
        if trial is not None or time.monotonic() - self.read > PLAIN_EVERY_S:
            self.refresh()
        if trial is not None:
            row = next(row for row in self.rows if (row["loss"], row["trial"]) == (trial.loss, trial.asked.index))
            self.console.print(f"{line_of(row)} ({time_left(self.rows, self.slots)})")
        self.display.tick()


def time_left(rows: Sequence[Row], at_once: int) -> str:
    """How much is left, from what the ended trials took; `at_once`: how many runs are under way."""
    left = sum(row["state"] not in ENDED for row in rows)
    if not left:
        return f"all {len(rows)} trials have ended"
    took = [row["seconds"] for row in rows if row.get("seconds")]
    about = f", about {minutes(left * sum(took) / len(took) / max(1, at_once))}" if took else ""
    return f"{left} of {len(rows)} trials left{about}"


def line_of(row: Row) -> str:
    """What became of a trial that has ended."""
    name = f"{row['loss']} trial {row['trial']}"
    if row["state"] != "finished":
        return f"{name}: {row['state']}: {row['reason']}; {values_line(row)}"
    seeds = " ".join(f"{value:.3f}" for value in row["values"])
    beyond = "" if row["feasible"] else " (beyond a limit)"
    return f"{name}: accuracy {row['value']:.3f} [{seeds}]{beyond}, {values_line(row)}"


def values_line(row: Row) -> str:
    """The searched settings of a trial."""
    values = {name.removeprefix("param."): value for name, value in row.items() if name.startswith("param.")}
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
