"""What a person sees of a search, while it goes on and after: a table with a line per loss, and a line per trial."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sweeps.search.controller import OpenTrial
from sweeps.search.spec import Search
from sweeps.search.study import LossStudy
from sweeps.search.tables import ENDED, Row, best_rows, trial_rows, write_trials
from sweeps.study.folder import read_json
from sweeps.workers.attempts import latest_metrics
from sweeps.workers.progress import PLAIN_EVERY_S, Display, minutes


@dataclass
class SearchProgress:
    """The state of a search, and its display. trials.parquet is written anew whenever a trial ends."""

    search: Search
    studies: Mapping[str, LossStudy]
    console: Console
    slots: int  # runs at a time

    def __post_init__(self) -> None:
        self.display = Display(self.console, self.text)
        self.refresh()

    def refresh(self) -> None:
        """Read all trials, and write their table."""
        self.read = time.monotonic()
        self.rows: Sequence[Row] = trial_rows(self.search, self.studies)
        write_trials(self.search, self.rows)

    def text(self) -> str:
        """The trials left, and the runs under way with their steps."""
        study, seeds = self.search.study, self.search.seeds
        going = [run for loss in self.search.losses for run in under_way(study, loss, seeds, self.rows)]
        return "; ".join([time_left(self.rows, self.slots), *going])

    def update(self, trial: OpenTrial | None) -> None:
        """Take in that a trial has ended, or that time has passed, in which others may have ended elsewhere."""
        if trial is not None or time.monotonic() - self.read > PLAIN_EVERY_S:
            self.refresh()
        if trial is not None:
            row = next(row for row in self.rows if (row["loss"], row["trial"]) == (trial.loss, trial.asked.index))
            self.console.print(f"{line_of(row)} ({time_left(self.rows, self.slots)})")
        self.display.tick()


def search_table(study: Path, described: Mapping[str, Any], rows: Sequence[Row]) -> Table:
    """A line per loss, with the runs under way, the best so far and the time left; `described`: its study.json."""
    going = {loss: under_way(study, loss, described["seeds"], rows) for loss in described["losses"]}
    title = f"{described['name']}: {time_left(rows, sum(map(len, going.values())))}"
    table = Table(title=title, title_justify="left")
    for column in ("loss", "trials", "running", "best so far"):
        table.add_column(column)
    best = {loss: f"{row['value']:.3f}: {values_line(row)}" for loss, row in best_rows(rows).items()}
    for loss, lines in going.items():
        own = [row for row in rows if row["loss"] == loss]
        table.add_row(loss, tally(own), "\n".join(lines), best.get(loss, ""))
    return table


def under_way(study: Path, loss: str, seeds: Sequence[int], rows: Sequence[Row]) -> list[str]:
    """The loss's runs that their folders say are under way, with their steps."""
    names = [f"trial{row['trial']:04d}" for row in rows if row["loss"] == loss and row["state"] not in ENDED]
    return [
        f"{loss}-{name}-seed{seed} {steps}"
        for name in names
        for seed, state, steps in runs_of(study, f"{loss}-{name}", seeds)
        if state == "running"
    ]


def runs_of(study: Path, name: str, seeds: Iterable[int]) -> list[tuple[int, str | None, str]]:
    """Of the run of each seed: the seed, its state (None before it has begun), and steps done of all."""
    found = []
    for seed in seeds:
        folder = study / "runs" / f"{name}-seed{seed}"
        state = (read_json(folder / "status.json") or {}).get("state")
        config = (read_json(folder / "config.json") or {}).get("config", {})
        done = int((latest_metrics(folder) or {"step": -1})["step"]) + 1 if state == "running" else 0
        found.append((seed, state, f"{done}/{config.get('run', {}).get('steps', '?')}"))
    return found


def time_left(rows: Sequence[Row], at_once: int) -> str:
    """How much is left, from what the ended trials took; `at_once`: how many runs are under way."""
    left = sum(row["state"] not in ENDED for row in rows)
    if not left:
        return f"all {len(rows)} trials have ended"
    took = [row["seconds"] for row in rows if row.get("seconds")]
    about = f", about {minutes(left * sum(took) / len(took) / max(1, at_once))}" if took else ""
    return f"{left} of {len(rows)} trials left{about}"


def tally(rows: Sequence[Row]) -> str:
    """Trials ended, and how those ended that have no value."""
    counts = {state: sum(row["state"] == state for row in rows) for state in ENDED}
    without = [f"{count} {state}" for state, count in counts.items() if count and state != "finished"]
    return ", ".join([f"{sum(counts.values())}/{len(rows)}", *without])


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
