"""The command `status`: what a search or comparison has done and is doing, while it runs and after."""

import argparse
from collections.abc import Mapping, Sequence
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
    """Print the state of the study."""
    study, console = Path(options.study), make_console()
    described = read_json(study / "study.json")
    if not isinstance(described, dict):
        raise UsageError(
            f"expected a study's folder with study.json, got {str(study)!r}: give the one `sweeps` printed"
        )
    needed = ("name", "seeds", "losses") if described.get("kind") == "search" else ("arms",)
    if missing := [name for name in needed if name not in described]:
        raise UsageError(f"{study / 'study.json'}: expected {', '.join(missing)}, got none: restore the file")
    if described.get("kind") == "search":
        rows = live_rows(study, described)
        console.print(search_table(described, rows))
        for line in [*trouble(rows), *at_work(study, rows)]:
            console.print(line)
        return
    console.print(comparison_table(study, described))


def live_rows(study: Path, described: Mapping[str, Any]) -> list[Row]:
    """The trials as the table has them, with what runs now from the run folders."""
    rows = read_trials(study)
    for row in rows:
        going = {seed: folder for seed in described["seeds"] if is_running(folder := run_folder(study, row, seed))}
        if going and row["state"] == "waiting":
            row["state"] = "running"
        row["going"] = going
    return rows


def run_folder(study: Path, row: Row, seed: int) -> Path:
    """A run of the trial."""
    return study / "runs" / f"{row['loss']}-trial{row['trial']:04d}-seed{seed}"


def is_running(folder: Path) -> bool:
    """Whether the run says that it is under way."""
    status = read_json(folder / "status.json")
    return isinstance(status, dict) and status.get("state") == "running"


def search_table(described: Mapping[str, Any], rows: Sequence[Row]) -> Table:
    """A line per loss, with the runs under way, the best so far and the time left."""
    table = Table(title=f"{described['name']}: {time_left(rows)}", title_justify="left")
    for column in ("loss", "trials", "running", "best so far"):
        table.add_column(column)
    for loss in described["losses"]:
        own = [row for row in rows if row["loss"] == loss]
        going = [f"trial {row['trial']} seed {s}: {steps(f)}" for row in own for s, f in row["going"].items()]
        table.add_row(loss, tally(own), "\n".join(going), best_line(own, loss))
    return table


def steps(folder: Path) -> str:
    """Training steps done of all."""
    config = read_json(folder / "config.json") or {}
    done = int((latest_metrics(folder) or {"step": -1})["step"]) + 1
    return f"{done}/{config.get('config', {}).get('run', {}).get('steps', '?')}"


def time_left(rows: Sequence[Row]) -> str:
    """How much is left, from what the ended trials took and how many runs are under way."""
    left = sum(row["state"] not in ENDED for row in rows)
    if not left:
        return f"all {len(rows)} trials have ended"
    took = [row["seconds"] for row in rows if row["seconds"]]
    going = max(1, sum(len(row["going"]) for row in rows))
    if not took:
        return f"{left} of {len(rows)} trials left"
    return f"{left} of {len(rows)} trials left, about {minutes(left * sum(took) / len(took) / going)}"


def at_work(study: Path, rows: Sequence[Row]) -> list[str]:
    """A line where trials are left and nobody runs them here: what says that it is running then was killed."""
    left = any(row["state"] not in ENDED for row in rows)
    at_work = any(is_held(path) for path in study.glob(".lock*"))
    return ["nothing is at work here: the same command again goes on"] if left and not at_work else []


def trouble(rows: Sequence[Row]) -> list[str]:
    """A line for each trial that ended without a value, and each whose processes died."""
    lines = [
        f"{row['loss']} trial {row['trial']}: {row['state']}: {row['reason']}; {values_line(row)}"
        for row in rows
        if row["state"] in ("pruned", "infeasible", "failed")
    ]
    return lines + [
        f"{row['loss']} trial {row['trial']}: its processes died {row['attempts']} times"
        for row in rows
        if row["attempts"]
    ]


def comparison_table(study: Path, described: Mapping[str, Any]) -> Table:
    """A line per arm with the states of its runs."""
    table = Table(title=study.resolve().name, title_justify="left")
    for column in ("arm", "finished", "running", "other"):
        table.add_column(column)
    for arm in described["arms"]:
        folders = {seed: study / "runs" / f"{arm['name']}-seed{seed}" for seed in arm["seeds"]}
        states = {seed: (read_json(folder / "status.json") or {}).get("state") for seed, folder in folders.items()}
        finished = [seed for seed, state in states.items() if state == "finished"]
        going = [f"seed {seed}: {steps(folders[seed])}" for seed, state in states.items() if state == "running"]
        other = [f"seed {s}: {state}" for s, state in states.items() if state not in ("finished", "running", None)]
        table.add_row(arm["name"], f"{len(finished)}/{len(states)}", ", ".join(going), ", ".join(other))
    return table
