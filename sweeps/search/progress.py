"""What a person sees of a search while it goes on: a line per trial that has ended, and how far all are."""

import time
from collections.abc import Iterable, Mapping, Sequence

from harness import doing, in_words, say
from sweeps.search.controller import OpenTrial
from sweeps.search.options import Search
from sweeps.search.study import LossStudy
from sweeps.search.tables import ENDED, Row, best_rows, trial_rows, write_trials
from sweeps.workers.attempts import Attempt
from sweeps.workers.progress import steps_of

READ_S = 30.0  # between looks at what has ended elsewhere


class SearchProgress:
    """The state of a search. trials.parquet is written anew whenever a trial ends."""

    def __init__(self, search: Search, studies: Mapping[str, LossStudy], at_once: int) -> None:
        self.search, self.studies, self.at_once = search, studies, at_once
        self.refresh()

    def refresh(self) -> None:
        """Read all trials, and write their table."""
        self.read = time.monotonic()
        self.rows: Sequence[Row] = trial_rows(self.search, self.studies)
        write_trials(self.search, self.rows)

    def update(self, ended: Sequence[OpenTrial], running: Iterable[Attempt]) -> None:
        """Take in which trials have just ended, or that time has passed, in which others may have ended elsewhere."""
        if ended or time.monotonic() - self.read > READ_S:
            self.refresh()
        for trial in ended:
            row = next(row for row in self.rows if (row["loss"], row["trial"]) == (trial.loss, trial.asked.index))
            say(f"{line_of(row)} ({self.left()})")
        best = [f"{loss} best {row['value']:.3f}" for loss, row in best_rows(self.rows).items()]
        doing("; ".join([self.left(), *best, *map(steps_of, running)]))

    def left(self) -> str:
        """How much is left, from what the ended trials took."""
        left = sum(row["state"] not in ENDED for row in self.rows)
        if not left:
            return f"all {len(self.rows)} trials have ended"
        took = [row["seconds"] for row in self.rows if row.get("seconds")]
        about = f", about {in_words(left * sum(took) / len(took) / self.at_once)}" if took else ""
        return f"{left} of {len(self.rows)} trials left{about}"


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
