"""A study's folders as the runs that MLflow shows: the study, below it its arms or trials, below these their seeds."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from harness import UsageError, flatten
from sweeps.study.folder import read_json, read_lines, read_rows

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
    parent: str | None = None
    begun: str = ""
    status: str = "RUNNING"
    started_ms: int = 0
    ended_ms: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    size: int = 0  # bytes of what `entries` is read from
    entries: Callable[[], Sequence[Sequence[Point]]] = field(default=list, compare=False)  # one a line of metrics.jsonl
    files: Sequence[tuple[Path, int]] = ()  # artifacts, each with the time of its last change


def study_nodes(study: Path) -> list[Node]:
    """Every node of the study, parents first. Raises UsageError where the folder holds no study."""
    described = read_json(study / "study.json")
    if not isinstance(described, dict):
        raise UsageError(f"expected a study folder with a study.json, got {str(study)!r}: name the study's folder")
    rows = read_rows(study / "trials.parquet")
    begun = [
        file.parent for prefix in ("", "winners/") for file in sorted(study.glob(f"{prefix}runs/*/environment.json"))
    ]
    seeds = [seed_node(study, folder) for folder in begun]
    paths = dict.fromkeys(seed.parent or "" for seed in seeds)
    groups = [group_node(path, [seed for seed in seeds if seed.parent == path], described, rows) for path in paths]
    names = "study.json", "claims.toml", "report/report.html", "report/verdict.json", "report/figures/*.png"
    files = [(file, file.stat().st_mtime_ns) for name in names for file in sorted(study.glob(name))]
    planned = len(described.get("losses", ())) * described.get("trials", 0) or len(described.get("arms", ()))
    plain = {name: value for name, value in described.items() if isinstance(value, str | int) and name != "storage"}
    root = replace(above(Node("."), groups, planned), params=shown(plain), files=files)
    return [root, *groups, *seeds]


def group_node(
    path: str, seeds: Sequence[Node], described: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Node:
    """The node of an arm, or of a trial: its searched settings at once, its value and constraints when it has ended."""
    arm = next((arm for arm in described.get("arms", ()) if arm["name"] == path), None)
    if arm is not None:
        return replace(above(Node(path, "."), seeds, len(arm["seeds"])), params=shown(arm["settings"]))
    loss, _, number = path.rpartition("-trial")
    row = next((row for row in rows if (row["loss"], f"{row['trial']:04d}") == (loss, number)), {})
    state = STATES.get(row.get("state", ""))
    planned = len(described["report_seeds"]) if path.startswith("winners/") else 0 if state else len(seeds) + 1
    searched = described.get("spaces", {}).get(loss, ())
    params = {name: value for name, value in seeds[0].params.items() if name in searched}
    node = replace(above(Node(path, "."), seeds, planned), params=params)
    if state is None:
        return node
    kept = {key: row[key] for key in row if key not in ("trial", "ended") and not key.startswith("param.")}
    found = points(kept, 0, node.started_ms)
    return replace(node, status=state, size=1, entries=lambda: [found])


def above(node: Node, parts: Sequence[Node], planned: int) -> Node:
    """The node with the times of those below it; it ends with the last of those that are planned."""
    started_ms = min((part.started_ms for part in parts), default=0)
    if len(parts) < planned or not all(part.ended_ms for part in parts):
        return replace(node, started_ms=started_ms)
    ended_ms = max((part.ended_ms or 0 for part in parts), default=started_ms)
    return replace(node, started_ms=started_ms, status="FINISHED", ended_ms=ended_ms)


def seed_node(study: Path, folder: Path) -> Node:
    """The node of one training run."""
    status, metrics, path = folder / "status.json", folder / "metrics.jsonl", folder.relative_to(study).as_posix()
    begun = read_json(folder / "environment.json")["started_at"]
    started_ms = int(datetime.fromisoformat(begun).timestamp() * 1000)
    state = STATES.get(str((read_json(status) or {}).get("state")), "RUNNING")
    return Node(
        path=path,
        parent=re.sub(r"runs/(.*)-seed[0-9]+$", r"\1", path),
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
