"""The command `status`: what a search or comparison has done and is doing, while it runs and after."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from harness import UsageError
from sweeps.search.progress import line_of, runs_of, search_table
from sweeps.search.tables import ENDED, read_trials
from sweeps.study.folder import is_held, read_json
from sweeps.workers.progress import make_console


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
    rows = read_trials(study)
    console.print(search_table(study, described, rows))
    for row in rows:
        if row["state"] in ENDED and row["state"] != "finished":
            console.print(line_of(row))
    for row in rows:
        if row["attempts"]:
            console.print(f"{row['loss']} trial {row['trial']}: processes that died: {row['attempts']}")
    left = any(row["state"] not in ENDED for row in rows)
    if left and not any(is_held(path) for path in study.glob(".lock*")):
        console.print("no process is working in this folder: run the same command again to continue")


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
