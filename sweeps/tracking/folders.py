"""Folders as the runs that MLflow shows: those of a study beside one for the study itself, or plain runs.

They lie flat, since MLflow draws no charts of runs below others; what belongs together has the same tag, `arm`.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from harness import UsageError, flatten
from sweeps.study.folder import read_json, read_lines, read_rows

BEGAN = "environment.json"  # every run has it from its beginning
LONGEST = 500  # characters of a parameter; study.json, an artifact, has the rest
STATES = {"finished": "FINISHED", "preempted": "KILLED", "pruned": "KILLED", "infeasible": "FAILED", "failed": "FAILED"}
MEANS = {"correct": "accuracy", "response_tokens": "response_tokens_mean", "truncated": "truncated_share"}


class Point(NamedTuple):
    """A number at a training step. The time is the folder's: what is logged twice is the same point."""

    key: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True)
class Node:
    """One run as MLflow shows it. It is found again by `path`, within the study, and by when it began."""

    path: str
    arm: str | None = None  # of a study, or its trial
    begun: str = ""
    status: str = "RUNNING"
    started_ms: int = 0
    ended_ms: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    size: int = 0  # bytes of what `entries` is read from
    entries: Callable[[], Sequence[Sequence[Point]]] = field(default=list, compare=False)  # one a line of metrics.jsonl
    files: Sequence[tuple[Path, int]] = ()  # artifacts, each with the time of its last change


def tracked_folders(root: Path) -> list[Path]:
    """A study itself; the folder that a run lies in; else the folder and its subfolders, those that have any."""
    if (root / BEGAN).is_file():
        return [root.resolve().parent]
    if (root / "study.json").is_file():
        return [root]
    below = sorted(path for path in root.glob("*") if path.is_dir())
    return [path for path in (root, *below) if (path / "study.json").is_file() or any(path.glob(f"*/{BEGAN}"))]


def nodes_of(folder: Path) -> list[Node]:
    """The nodes of a study, its own first, or of the plain runs in a folder."""
    if not (folder / "study.json").is_file():
        return [run_node(folder, path.parent) for path in sorted(folder.glob(f"*/{BEGAN}"))]
    begun = [file.parent for prefix in ("", "winners/") for file in sorted(folder.glob(f"{prefix}runs/*/{BEGAN}"))]
    runs = [run_node(folder, path) for path in begun]
    return [study_node(folder, runs), *runs]


def study_node(study: Path, runs: Sequence[Node]) -> Node:
    """The study's own node: what it says of itself, and its report. It ends with the last run that has begun."""
    described = read_json(study / "study.json")
    if not isinstance(described, dict):
        raise UsageError(f"expected a JSON object in {study / 'study.json'}, got something else: restore the file")
    names = "study.json", "claims.toml", "report/report.html", "report/verdict.json", "report/figures/*.png"
    files = [(file, file.stat().st_mtime_ns) for name in names for file in sorted(study.glob(name))]
    ends = [run.ended_ms for run in runs if run.ended_ms is not None]
    is_ended = 0 < len(ends) == len(runs)
    plain = {name: value for name, value in described.items() if isinstance(value, str | int) and name != "storage"}
    return Node(
        ".",
        status="FINISHED" if is_ended else "RUNNING",
        started_ms=min((run.started_ms for run in runs), default=0),
        ended_ms=max(ends) if is_ended else None,
        params=shown(plain),
        files=files,
    )


def run_node(place: Path, folder: Path) -> Node:
    """The node of one training run in a study or in a folder of plain runs."""
    status, metrics, path = folder / "status.json", folder / "metrics.jsonl", folder.relative_to(place).as_posix()
    begun = read_json(folder / BEGAN)["started_at"]
    started_ms = int(datetime.fromisoformat(begun).timestamp() * 1000)
    state = STATES.get(str((read_json(status) or {}).get("state")), "RUNNING")
    return Node(
        path=path,
        arm=re.sub(r"-seed[0-9]+$", "", path.replace("runs/", "")) if "/" in path else None,
        begun=begun,
        status=state,
        started_ms=started_ms,
        ended_ms=None if state == "RUNNING" else int(status.stat().st_mtime * 1000),
        params=shown(flatten((read_json(folder / "config.json") or {}).get("config", {}))),
        size=metrics.stat().st_size if metrics.is_file() else 0,
        entries=lambda: metric_entries(folder, started_ms),
    )


def metric_entries(folder: Path, started_ms: int) -> list[list[Point]]:
    """The points of each whole line of metrics.jsonl, with those of the evaluations that were made until then."""
    path, found = folder / "metrics.jsonl", list[list[Point]]()
    for line in read_lines(path) if path.is_file() else ():
        step = int(line.pop("step"))
        time_ms = started_ms + int(1000 * line["time/elapsed_s"])
        entry = points(line, step, time_ms)
        for done in (0, 1) if step == 0 else (step + 1,):
            rows = read_rows(folder / "evals" / f"step_{done:06d}.parquet", list(MEANS))
            means = {f"eval/{key}": fmean(float(row[name]) for row in rows) for name, key in MEANS.items() if rows}
            entry += points(means, done, time_ms)
        found.append(entry)
    return found


def points(values: Mapping[str, Any], step: int, time_ms: int) -> list[Point]:
    """The values that are finite numbers, under names that MLflow takes: `avg@32` is avg_at_32."""
    return [
        Point(re.sub(r"[^\w\-. :/]", "_", key.replace("@", "_at_"), flags=re.ASCII), float(value), step, time_ms)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def shown(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as their flags spell them, shortened."""
    return {
        name: (value if isinstance(value, str) else json.dumps(value))[:LONGEST] for name, value in settings.items()
    }
