"""The command `status`: what a search or comparison has done and is doing, while it runs and after."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from harness import UsageError
from sweeps.search.progress import best_line, tally, values_line
from sweeps.search.tables import ENDED, Row, read_trials
from sweeps.study.folder import is_held, read_json
from sweeps.workers.attempts import latest_metrics
from sweeps.workers.progress import make_console, minutes


def status_command(options: argparse.Namespace) -> None:
    """Print the state of the study. Raises UsageError where the folder holds none."""
    study, console = Path(options.study), make_console()
    described = read_json(study / "study.json")
    if not isinstance(described, dict):
        raise UsageError(
            f"expected a study's folder with study.json, got {str(study)!r}: give the one `sweeps` printed"
        )
    is_search = described.get("kind") == "search"
    if missing := [name for name in (("name", "seeds", "losses") if is_search else ("arms",)) if name not in described]:
        raise UsageError(f"{study / 'study.json'}: expected {', '.join(missing)}, got none: restore the file")
    if not is_search:
        console.print(comparison_table(study, described))
        return
    rows = live_rows(study, described)
    console.print(search_table(described, rows))
    for line in trouble(rows):
        console.print(line)
    left = any(row["state"] not in ENDED for row in rows)
    if left and not any(is_held(path) for path in study.glob(".lock*")):
        console.print("nothing is at work in this folder: the same command again goes on")


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


def comparison_table(study: Path, described: Mapping[str, Any]) -> Table:
    """A line per arm with the states of its runs."""
    table = Table(title=study.resolve().name, title_justify="left")
    for column in ("arm", "finished", "running", "other"):
        table.add_column(column)
    for arm in described["arms"]:
        runs = runs_of(study, arm["name"], arm["seeds"])
        finished = sum(state == "finished" for _, state, _ in runs)
        going = [f"seed {seed}: {steps}" for seed, state, steps in runs if state == "running"]
        rest = [f"seed {seed}: {state}" for seed, state, _ in runs if state not in ("finished", "running", None)]
        table.add_row(arm["name"], f"{finished}/{len(runs)}", ", ".join(going), ", ".join(rest))
    return table


def live_rows(study: Path, described: Mapping[str, Any]) -> list[Row]:
    """The trials as their table has them, each with `going`: a line for each of its runs that is under way."""
    rows = read_trials(study)
    for row in rows:
        name = f"trial{row['trial']:04d}"
        runs = runs_of(study, f"{row['loss']}-{name}", described["seeds"])
        row["going"] = [f"{name}-seed{seed}: {steps}" for seed, state, steps in runs if state == "running"]
        if row["going"] and row["state"] == "waiting":
            row["state"] = "running"
    return rows


def search_table(described: Mapping[str, Any], rows: Sequence[Row]) -> Table:
    """A line per loss, with the runs under way, the best so far and the time left."""
    table = Table(title=f"{described['name']}: {time_left(rows)}", title_justify="left")
    for column in ("loss", "trials", "running", "best so far"):
        table.add_column(column)
    for loss in described["losses"]:
        own = [row for row in rows if row["loss"] == loss]
        going = [line for row in own for line in row["going"]]
        table.add_row(loss, tally(own), "\n".join(going), best_line(own, loss))
    return table


def time_left(rows: Sequence[Row]) -> str:
    """How much is left, from what the ended trials took and how many runs are under way."""
    left = sum(row["state"] not in ENDED for row in rows)
    if not left:
        return f"all {len(rows)} trials have ended"
    took = [row["seconds"] for row in rows if row["seconds"]]
    going = max(1, sum(len(row["going"]) for row in rows))
    about = f", about {minutes(left * sum(took) / len(took) / going)}" if took else ""
    return f"{left} of {len(rows)} trials left{about}"


def trouble(rows: Sequence[Row]) -> list[str]:
    """A line for each trial that ended without a value, and each whose processes died."""
    ended = [row for row in rows if row["state"] in ("pruned", "infeasible", "failed")]
    lines = [
        f"{row['loss']} trial {row['trial']}: {row['state']}: {row['reason']}; {values_line(row)}" for row in ended
    ]
    died = [row for row in rows if row["attempts"]]
    return lines + [f"{row['loss']} trial {row['trial']}: its processes died {row['attempts']} times" for row in died]
