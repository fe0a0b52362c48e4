"""What a person sees of a search while it goes on: a line per trial that has ended, and how far all are."""

from collections.abc import Sequence

from harness import in_words
from sweeps.search.tables import ENDED, Row


def time_left(rows: Sequence[Row], at_once: int) -> str:
    """How much is left, from what the ended trials took; `at_once`: how many runs are under way."""
    left = sum(row["state"] not in ENDED for row in rows)
    if not left:
        return f"all {len(rows)} trials have ended"
    took = [row["seconds"] for row in rows if row.get("seconds")]
    about = f", about {in_words(left * sum(took) / len(took) / at_once)}" if took else ""
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
