"""A study's folders as a tree: the study, its trials or arms, their seeds. It knows nothing of MLflow.

A node says cheaply whether it changed; what it holds is read when it is asked for.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness import UsageError
from sweeps.study.folder import read_json
from sweeps.tracking.mirror_run import Content, run_content, started_ms
from sweeps.tracking.mirror_trials import (
    arm_content,
    best_values,
    settings_of,
    study_name,
    study_note,
    trial_content,
    trial_name,
    trial_rows,
)

STATUS = {  # MLflow's word for each of ours
    "waiting": "SCHEDULED",
    "running": "RUNNING",
    "finished": "FINISHED",
    "preempted": "KILLED",
    "pruned": "KILLED",
    "infeasible": "FAILED",
    "failed": "FAILED",
}
BEGUN = {"state": "running"}  # a trial of which the table has no row yet
ENDED = ("FINISHED", "KILLED", "FAILED")
Signature = tuple[object, ...]


@dataclass(frozen=True)
class Node:
    """A run as MLflow shows it: of a seed, of a trial or arm, or of the study."""

    path: str  # within the study; it is found again by this
    name: str
    parent: str | None
    status: str
    started_ms: int
    ended_ms: int | None
    signature: Signature = field(repr=False)  # as long as this stays, so does the content
    read: Callable[[], Content] = field(repr=False)


def study_nodes(study: Path, path: str = ".", parent: str | None = None) -> list[Node]:
    """Every node of the study, parents first, the comparison of a search's winners among them."""
    described = read_json(study / "study.json")
    if not isinstance(described, dict):
        raise UsageError(f"expected a study folder with a study.json, got {str(study)!r}: name the study's folder")
    prefix = "" if path == "." else f"{path}/"
    seeds = [seed_node(folder, prefix) for folder in run_folders(study)]
    rows = trial_rows(study / "trials.parquet")
    planned = {arm["name"]: arm for arm in described.get("arms", ())} | {trial_name(row): row for row in rows}
    names = [*planned, *sorted({without_seed(seed.name) for seed in seeds} - planned.keys())]
    children = [
        child_node(
            (prefix, name, path), planned.get(name, BEGUN), [seed for seed in seeds if without_seed(seed.name) == name]
        )
        for name in names
    ]
    root = root_node(study, (path, parent), described, rows, children)
    nodes = [root, *children, *seeds]
    if (study / "winners" / "study.json").is_file():
        nodes += study_nodes(study / "winners", f"{prefix}winners", path)
    return nodes


def run_folders(study: Path) -> list[Path]:
    """The runs that have begun, by name."""
    return sorted(file.parent for file in study.glob("runs/*/config.json") if not file.parent.name.startswith("."))


def seed_node(folder: Path, prefix: str) -> Node:
    """The node of one training run."""
    status = read_json(folder / "status.json") or {"state": "running"}
    mlflow_status = STATUS.get(str(status.get("state")), "RUNNING")
    parent = f"{prefix}{without_seed(folder.name)}"
    files = [folder / name for name in ("config.json", "metrics.jsonl", "status.json")]
    return Node(
        path=f"{prefix}runs/{folder.name}",
        name=folder.name,
        parent=parent,
        status=mlflow_status,
        started_ms=started_ms(folder),
        ended_ms=modified_ms(folder / "status.json") if mlflow_status in ENDED else None,
        signature=(parent, *stamps([*files, *sorted(folder.glob("evals/*.parquet"))])),
        read=partial(run_content, folder),
    )


def child_node(place: tuple[str, str, str], described: Mapping[str, Any], seeds: Sequence[Node]) -> Node:
    """The node of a trial or an arm; `place` is its prefix, its name and its parent's path."""
    prefix, name, parent = place
    is_trial = "state" in described
    waiting = [] if is_trial else ["SCHEDULED"] * (len(described["seeds"]) - len(seeds))
    status = STATUS.get(described.get("state", ""), together([*(seed.status for seed in seeds), *waiting]))
    ended = max((seed.ended_ms or 0 for seed in seeds), default=0) or None
    content = trial_content(described, ended or 0, status in ENDED) if is_trial else arm_content(described)
    return Node(
        path=f"{prefix}{name}",
        name=name,
        parent=parent,
        status=status,
        started_ms=min((seed.started_ms for seed in seeds), default=0),
        ended_ms=ended if status in ENDED else None,
        signature=(parent, status, ended, repr(content)),
        read=lambda: content,
    )


def root_node(
    study: Path,
    place: tuple[str, str | None],
    described: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    children: Sequence[Node],
) -> Node:
    """The node of the study itself; `place` is its path and its parent's."""
    path, parent = place
    planned = len(described.get("losses") or ()) * (described.get("trials") or 0)
    missing = ["SCHEDULED"] * (planned - len(children))
    statuses = [child.status for child in children] + missing
    # a search in which a trial failed is no failed search
    status = together(["FINISHED" if rows and each in ENDED else each for each in statuses])
    ended = max((child.ended_ms or 0 for child in children), default=0) or None
    files = [study / name for name in ("study.json", "trials.parquet", "importance.json", "report/verdict.json")]
    figures = sorted((study / "report" / "figures").glob("*.png"))
    ends = {child.name: child.ended_ms or 0 for child in children}
    return Node(
        path=path,
        name=study_name(study, described),
        parent=parent,
        status=status,
        started_ms=min((child.started_ms for child in children if child.started_ms), default=0)
        or modified_ms(study / "study.json"),
        ended_ms=ended if status in ENDED else None,
        signature=(parent, status, ended, *stamps([*files, *figures])),
        read=lambda: Content(
            params=settings_of(described),
            tags={"mlflow.note.content": study_note(described), "fipo.kind": str(described.get("kind", "comparison"))},
            streams={f"best/{loss}": points for loss, points in best_values(rows, ends).items()},
            artifacts=[(file, "") for file in files if file.is_file()] + [(file, "figures") for file in figures],
        ),
    )


def without_seed(name: str) -> str:
    """The name of the trial or arm to which a run of that name belongs."""
    return re.sub(r"-seed[0-9]+$", "", name)


def together(statuses: Iterable[str]) -> str:
    """One status for many."""
    present = set(statuses)
    if present and present <= {"SCHEDULED"}:
        return "SCHEDULED"
    for status in ("RUNNING", "SCHEDULED", "FAILED", "KILLED"):
        if status in present:
            return "RUNNING" if status == "SCHEDULED" else status
    return "FINISHED" if present else "SCHEDULED"


def stamps(files: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    """Name, length and time of each file that is there."""
    for file in files:
        try:
            found = file.stat()
        except FileNotFoundError:
            continue
        yield file.name, found.st_size, found.st_mtime_ns


def modified_ms(file: Path) -> int:
    """When the file was written, in milliseconds; 0 where there is none."""
    return int(file.stat().st_mtime * 1000) if file.exists() else 0
