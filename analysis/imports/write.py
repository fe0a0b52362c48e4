"""Runs -> run folders of a study of imported runs. No run is ever written over; study.json is made anew from all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import RecordsError
from analysis.imports.alike import about_study
from analysis.imports.runs import Run
from analysis.records.claims import claims_file, read_claims
from analysis.records.run_files import EVAL_SCHEMA, NEEDED_METRICS, SCHEMA_VERSION, read_json

FAMILY = "imported"


def check_study(study: Path, runs: Sequence[Run], claims: str | None) -> None:
    """Raise RecordsError where the study is none of imported runs, or has one of these runs."""
    if study.exists() and not (study / "study.json").is_file() and any(study.iterdir()):
        raise RecordsError(
            f"expected a new folder or a study of imported runs as --study, got {study}: name another one"
        )
    if (study / "study.json").is_file() and (family := read_json(study / "study.json").get("family")) != FAMILY:
        raise RecordsError(f"expected a study of imported runs, got {study} of family {family!r}: name another --study")
    if claims is not None:
        wanted, own = read_claims(claims_file(claims)).sha256, study / "claims.toml"
        if (study / "study.json").is_file() and (not own.is_file() or read_claims(own).sha256 != wanted):
            raise RecordsError(
                f"expected the claims that {study} began with, got others in {claims}: leave --claims out"
            )
    for run in runs:
        if run.seed is not None and (folder := _folder(study, run)).exists():
            raise RecordsError(
                f"expected no run of {run.arm} with seed {run.seed}, got {folder}: name another --study or --seed"
            )


def write_runs(study: Path, runs: Sequence[Run], claims: str | None) -> list[Path]:
    """Write the runs and study.json; the runs' folders. Runs of unknown seeds get numbers that no other run has."""
    (study / "runs").mkdir(parents=True, exist_ok=True)
    if claims is not None and not (study / "claims.toml").exists():
        shutil.copyfile(claims_file(claims), study / "claims.toml")
    free = 1 + max([int(path.name.rpartition("-seed")[2]) for path in (study / "runs").glob("*-seed*")], default=-1)
    free = max([free, *(run.seed + 1 for run in runs if run.seed is not None)])
    written = []
    _write_json(study / "study.json", _description(study))  # so that what a killed import left is a study, too
    for run in runs:
        if run.seed is None:
            run.seed, free = free, free + 1
        written.append(_write_run(study, run))
    _write_json(study / "study.json", _description(study))
    return written


def _folder(study: Path, run: Run) -> Path:
    return study / "runs" / f"{run.arm}-seed{run.seed}"


def _write_run(study: Path, run: Run) -> Path:
    """Beside its place first, then renamed: what a killed command left is no run."""
    made, steps = Path(tempfile.mkdtemp(prefix=".importing-", dir=study)), {"steps": run.last_step}
    config = {
        "run": {"seed": run.seed, **(steps if run.metrics or run.last_step > 1 else {})},
        "loss": {"loss_type": run.settings.get("loss_type", "")},
        "source": run.settings,
    }
    digest = sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()
    _write_json(made / "config.json", {"schema_version": SCHEMA_VERSION, "sha256": digest, "config": config})
    _write_json(made / "environment.json", {"imported": run.about})
    if run.metrics:
        empty = dict.fromkeys(NEEDED_METRICS)
        _write_lines(
            made / "metrics.jsonl", ({**empty, **row, "step": step} for step, row in sorted(run.metrics.items()))
        )
    answered = {row["step"] for row in run.answers}
    means = [
        {"step": step, **row}
        for step, row in sorted(run.evaluations.items())
        if step not in answered and "accuracy" in row
    ]
    if means:
        _write_lines(made / "evaluations.jsonl", means)
    for step in sorted(answered):
        (made / "evals").mkdir(exist_ok=True)
        rows = [row for row in run.answers if row["step"] == step]
        pq.write_table(pa.Table.from_pylist(rows, EVAL_SCHEMA), made / "evals" / f"step_{step:06d}.parquet")
    about = {
        "state": "finished",
        "reason_code": "finished",
        "reason": None,
        "exit_code": 0,
        "steps_done": run.last_step,
    }
    _write_json(made / "status.json", about)
    made.chmod(0o755)
    made.rename(_folder(study, run))
    return _folder(study, run)


def _description(study: Path) -> dict[str, Any]:
    """study.json over all runs that are there; what it says of when and of claims stays."""
    own = study / "study.json"
    before = read_json(own) if own.is_file() else {}
    claims = before.get("claims")
    if claims is None and (study / "claims.toml").is_file():
        fixed = read_claims(study / "claims.toml", "claims")
        claims = {
            "name": fixed.title,
            "sha256": fixed.sha256,
            "fixed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "family": FAMILY,
        "family_description": "Runs of other trainers, imported.",
        "preset": "none",
        "claims": claims,
        **about_study(study / "runs"),
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    beside.replace(path)


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text(
        "".join(
            json.dumps({key: None if value != value else value for key, value in row.items()}) + "\n" for row in rows
        )
    )
