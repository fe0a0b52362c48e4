"""Small searches, in this process or as a command of their own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from harness import run_command
from sweeps.__main__ import main
from tests.harness.command_line import Outcome
from tests.harness.tiny import small_settings

SPACE = """
description = "for a test"
[parameters]
lr = { log = [1e-4, 1e-2] }
epsilon = { step = [0.1, 0.3, 0.1] }
"""


def preset(folder: Path, model: str, **changes: Any) -> Path:
    """A preset of runs that take a second."""
    path = folder / "preset.toml"
    lines = [
        f"{name} = {json.dumps(value)}" for name, value in small_settings(model, **{"steps": 1, **changes}).items()
    ]
    lines.remove(next(line for line in lines if line.startswith("lr = ")))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def arguments(folder: Path, model: str, space: str = SPACE, **changes: Any) -> list[str]:
    """The command line of a small search in the folder."""
    (folder / "space.toml").write_text(space, encoding="utf-8")
    flags = {
        "losses": "dapo",
        "space": folder / "space.toml",
        "preset": preset(folder, model),
        "study": folder / "study",
        "trials": 3,
        "seeds": 1,
        "report_seeds": 0,
        "slots": 2,
        "tracking_uri": "none",
    } | changes
    return ["search", *(str(word) for name, value in flags.items() for word in (f"--{name}", value))]


def started(command: Sequence[str]) -> Outcome:
    """What the command left, run in this process."""
    with redirect_stdout(StringIO()) as printed, redirect_stderr(StringIO()) as errors:
        code = run_command(lambda given: main(list(given)), list(command))
    return Outcome(code, printed.getvalue().splitlines(), errors.getvalue().splitlines())


def controller(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """The command as a process of its own, whose words go to the log."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeps", *command], stdout=output, stderr=output, start_new_session=True
        )


def read(path: Path) -> Any:
    """A JSON file's content."""
    return json.loads(path.read_text(encoding="utf-8"))


def rows(study: Path) -> list[dict[str, Any]]:
    """The trials as the study's table has them."""
    found: list[dict[str, Any]] = pq.read_table(study / "trials.parquet").to_pylist()
    return found


def runs_of(study: Path) -> dict[str, bytes]:
    """Every run's metrics, by name."""
    return {path.parent.name: path.read_bytes() for path in sorted((study / "runs").glob("*/metrics.jsonl"))}


def starts_of(study: Path) -> dict[str, int]:
    """How often a process of each run was started and finished: lines that it ends with."""
    logs = sorted((study / "logs").glob("*-trial*.log"))
    return {path.stem: path.read_text(encoding="utf-8").count("finished: ") for path in logs}


def finished(study: Path) -> set[str]:
    """The runs that have finished, by name."""
    states = {path.parent.name: path for path in (study / "runs").glob("*/status.json")}
    return {name for name, path in states.items() if read(path)["state"] == "finished"}
