"""One training run's folder as what MLflow takes: parameters, tags, numbers by step, files.

A folder only grows, so its numbers are streams: a mirror remembers how far it got in each, and the hash of what it had
seen. Where a run was started again and the beginning is another, the hash says so.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from harness import UsageError, flatten
from sweeps.study.folder import read_json

LONGEST = 500  # characters of a parameter or tag; the files themselves are artifacts
EVALS = {
    "correct": "eval/accuracy",
    "response_tokens": "eval/response_tokens_mean",
    "truncated": "eval/truncated_share",
}


class Point(NamedTuple):
    """A number at a step."""

    key: str
    value: float
    step: int
    timestamp_ms: int


Stream = Sequence[Sequence[Point]]  # an entry per line or table


@dataclass(frozen=True)
class Content:
    """All that a folder says."""

    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)
    artifacts: Sequence[tuple[Path, str]] = ()  # a file, and the folder that it lies in there


def run_content(folder: Path) -> Content:
    """What the run's folder says now."""
    recorded = read_json(folder / "config.json")
    status = read_json(folder / "status.json") or {}
    settings = flatten(recorded["config"])
    tags = {
        "fipo.config_sha256": recorded["sha256"],
        "fipo.loss": settings.get("loss_type"),
        "fipo.state": status.get("state", "running"),
        "fipo.reason": status.get("reason"),
    }
    return Content(
        params={name: shown(value) for name, value in settings.items()},
        tags={name: shown(value) for name, value in tags.items() if value is not None},
        streams={"metrics": list(metric_lines(folder)), "evals": [*evaluations(folder)]},
        artifacts=[(folder / "config.json", "")],
    )


def metric_lines(folder: Path) -> Iterator[list[Point]]:
    """The points of each whole line of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    content = path.read_bytes() if path.is_file() else b""
    started = started_ms(folder)
    for number, line in enumerate(content.split(b"\n")[:-1]):  # what follows the last newline is still being written
        try:
            metrics = json.loads(line)
            step, elapsed = int(metrics["step"]), metrics.get("time/elapsed_s") or 0.0
        except (ValueError, TypeError, KeyError):
            raise UsageError(f"{path}, line {number + 1}: expected metrics with a step, got something else") from None
        # a time that is the folder's, never the clock's: a point logged twice is then one point
        yield numbers({key: metrics[key] for key in metrics if key != "step"}, step, started + int(1000 * elapsed))


def evaluations(folder: Path) -> Iterator[list[Point]]:
    """The means of each evaluation, at the number of training steps done."""
    for path in sorted(folder.glob("evals/step_*.parquet")):
        step = int(path.stem.removeprefix("step_"))
        try:
            table = pq.read_table(path, columns=list(EVALS))
            means = {EVALS[name]: pc.mean(pc.cast(table[name], pa.float64())).as_py() for name in EVALS}
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{path}: expected a table written by this program, got: {error}") from None
        yield numbers(means, step, int(path.stat().st_mtime * 1000))


def numbers(values: Mapping[str, Any], step: int, timestamp_ms: int) -> list[Point]:
    """The values that are finite numbers, under names that MLflow takes."""
    return [
        Point(metric_name(key), float(value), step, timestamp_ms)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


def metric_name(key: str) -> str:
    """`avg@32` as `avg_at_32`; what else MLflow refuses as underscores."""
    return re.sub(r"[^\w\-. :/]", "_", key.replace("@", "_at_"), flags=re.ASCII)[:250]


def digests(stream: Stream) -> list[str]:
    """The hash of each beginning of the stream, from the empty one on. Times are left out: copying changes them."""
    digest = hashlib.sha256()
    found = [digest.hexdigest()[:16]]
    for entry in stream:
        digest.update(repr([(point.key, point.value, point.step) for point in entry]).encode())
        found.append(digest.hexdigest()[:16])
    return found


def shown(value: Any) -> str:
    """A value as a flag spells it, short."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    text = ",".join(map(shown, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def started_ms(folder: Path) -> int:
    """When the run began, as it recorded it; else when its settings were written."""
    try:
        environment = read_json(folder / "environment.json")
        return int(datetime.fromisoformat(environment["started_at"]).timestamp() * 1000)
    except (UsageError, TypeError, KeyError, ValueError):
        return int((folder / "config.json").stat().st_mtime * 1000)
