"""What MLflow shows of a folder: the runs of a study beside one for the study itself, or plain runs.

They lie flat, since MLflow draws no charts of runs below others; what belongs together has the same tag, `arm`.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from harness import flatten
from sweeps.study.folder import evaluation_means, read_json, read_lines

BEGAN, METRICS, STATUS = "environment.json", "metrics.jsonl", "status.json"  # the first is there from the beginning
LONGEST = 500  # characters of a parameter
STATES = {"finished": "FINISHED", "preempted": "KILLED", "pruned": "KILLED", "infeasible": "FAILED", "failed": "FAILED"}
MEANS = {"correct": "accuracy", "response_tokens": "response_tokens_mean", "truncated": "truncated_share"}
ARTIFACTS = "study.json", "claims.toml", "report/report.html", "report/verdict.json", "report/figures/*.png"


class Point(NamedTuple):
    """A number at a training step. The time is the folder's: what is logged twice is the same point."""

    key: str
    value: float
    timestamp_ms: int
    step: int


class Recorded(NamedTuple):
    """What a run's folder says of how far it is. `ended_ms`: None while it goes on."""

    begun: str
    status: str
    started_ms: int
    ended_ms: int | None
    params: Mapping[str, str]


def tracked_folders(root: Path) -> list[Path]:
    """A study itself; the folder that a run lies in; else the folder and its subfolders, those that have any."""
    if (root / BEGAN).is_file():
        return [root.resolve().parent]
    if (root / "study.json").is_file():
        return [root]
    below = sorted(path for path in root.glob("*") if path.is_dir())
    return [path for path in (root, *below) if (path / "study.json").is_file() or any(path.glob(f"*/{BEGAN}"))]


def run_folders(place: Path) -> list[Path]:
    """The folders of the runs that have begun: a study's own and those of a search's winners, or plain ones."""
    patterns = ("runs/*", "winners/runs/*") if (place / "study.json").is_file() else ("*",)
    return [file.parent for pattern in patterns for file in sorted(place.glob(f"{pattern}/{BEGAN}"))]


def newest_change(place: Path) -> tuple[int, int]:
    """How many files are logged, and the time in nanoseconds at which the last of them was written."""
    patterns = [f"{runs}*/{name}" for runs in ("", "runs/", "winners/runs/") for name in (METRICS, STATUS)]
    files = [file for pattern in (*patterns, *ARTIFACTS) for file in place.glob(pattern)]
    return len(files), max((file.stat().st_mtime_ns for file in files), default=0)


def recorded(folder: Path) -> Recorded:
    """What a run's folder says."""
    begun, status = read_json(folder / BEGAN)["started_at"], folder / STATUS
    state = STATES.get(str((read_json(status) or {}).get("state")), "RUNNING")
    started_ms = int(datetime.fromisoformat(begun).timestamp() * 1000)
    ended_ms = None if state == "RUNNING" else int(status.stat().st_mtime * 1000)
    settings = flatten((read_json(folder / "config.json") or {}).get("config", {}))
    shown = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return Recorded(begun, state, started_ms, ended_ms, {name: words[:LONGEST] for name, words in shown.items()})


def metric_entries(folder: Path, started_ms: int) -> list[list[Point]]:
    """The points of each whole line of metrics.jsonl, with those of the evaluations that were made until then."""
    found = list[list[Point]]()
    for line in read_lines(folder / METRICS) if (folder / METRICS).is_file() else ():
        step = int(line.pop("step"))
        time_ms = started_ms + int(1000 * line["time/elapsed_s"])
        entry = points(line, step, time_ms)
        for done in (0, 1) if step == 0 else (step + 1,):
            means = evaluation_means(folder / "evals" / f"step_{done:06d}.parquet")
            entry += points({f"eval/{MEANS[name]}": value for name, value in means.items()}, done, time_ms)
        found.append(entry)
    return found


def points(values: Mapping[str, Any], step: int, time_ms: int) -> list[Point]:
    """The values that are finite numbers, under names that MLflow takes: `avg@32` is avg_at_32."""
    return [
        Point(re.sub(r"[^\w\-. :/]", "_", key.replace("@", "_at_"), flags=re.ASCII), float(value), time_ms, step)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
