"""What a study's own files say of its trials, its arms and itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness import UsageError
from sweeps.tracking.mirror_run import Content, Point, numbers, shown


def trial_rows(table: Path) -> list[dict[str, Any]]:
    """The rows of trials.parquet, or none."""
    if not table.is_file():
        return []
    try:
        rows: list[dict[str, Any]] = pq.read_table(table).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{table}: expected a table written by this program, got: {error}: move it away") from None
    return rows


def trial_content(row: Mapping[str, Any], ended_ms: int, has_ended: bool) -> Content:
    """What is known of a trial: its parameters at once, its numbers when it has ended."""
    skipped = ("trial", "ended", "feasible")
    values = {name: value for name, value in row.items() if name not in skipped and not name.startswith("param.")}
    facts = ("loss", "trial", "state", "reason", "feasible", "host")
    return Content(
        params={name.removeprefix("param."): shown(row[name]) for name in row if is_param(row, name)},
        tags={f"fipo.{name}": shown(row[name]) for name in facts if row.get(name) is not None},
        streams={"trial": [numbers(values, 0, ended_ms)] if has_ended else []},
    )


def is_param(row: Mapping[str, Any], name: str) -> bool:
    """Whether the column is a parameter that the trial's loss has."""
    return name.startswith("param.") and row[name] is not None


def arm_content(described: Mapping[str, Any]) -> Content:
    """What is known of an arm: its own settings."""
    own = {name: shown(described[name]) for name in ("loss_type", "control") if name in described}
    return Content(params=own | {name: shown(value) for name, value in described.get("settings", {}).items()})


def settings_of(described: Mapping[str, Any]) -> dict[str, str]:
    """The study's plain settings as parameters; study.json, an artifact, has the rest."""
    params = {}
    for name, value in described.items():
        if isinstance(value, Mapping):
            value = value.get("name")
        plain = not isinstance(value, list) or not any(isinstance(part, dict | list) for part in value)
        # a storage's address may hold a password
        if value not in (None, []) and plain and name not in ("schema_version", "storage", "family_description"):
            params[name] = shown(value)
    return params


def study_name(study: Path, described: Mapping[str, Any]) -> str:
    """What the search is called, or the comparison's folder."""
    return str(described.get("name") or study.resolve().name)


def study_note(described: Mapping[str, Any]) -> str:
    """The description on the study's page."""
    return str(described.get("family_description") or described.get("value") or "")


def best_values(rows: Sequence[Mapping[str, Any]], ends: Mapping[str, int]) -> dict[str, list[list[Point]]]:
    """The best feasible value so far of each loss, by the order in which its trials ended."""
    best: dict[str, list[list[Point]]] = {}
    for row in sorted((row for row in rows if row.get("ended") is not None), key=lambda row: int(row["ended"])):
        points = best.setdefault(row["loss"], [])
        before = points[-1][0].value if points else None
        if row.get("feasible") and row["value"] is not None and (before is None or row["value"] > before):
            points.append([Point(f"best/{row['loss']}", row["value"], int(row["ended"]), ends[trial_name(row)])])
    return best


def trial_name(row: Mapping[str, Any]) -> str:
    """What the trial's folders begin with."""
    return f"{row['loss']}-trial{int(row['trial']):04d}"
