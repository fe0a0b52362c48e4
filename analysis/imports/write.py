"""Runs -> run folders of a study of imported runs. No run is ever written over; study.json is made anew from all."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import RecordsError
from analysis.imports.alike import borne_by
from analysis.imports.cells import UNKNOWN
from analysis.imports.runs import Run
from analysis.records.claims import claims_file, read_claims
from analysis.records.run_files import EVAL_SCHEMA, NEEDED_METRICS, SCHEMA_VERSION, named_seed, read_json
from analysis.records.study import read

FAMILY = {
    "schema_version": SCHEMA_VERSION,
    "family": "imported",
    "family_description": "Runs of other trainers, imported.",
    "preset": "none",
}


def check_study(study: Path, runs: Sequence[Run], claims: str | None) -> None:
    """Raise RecordsError where the study is none of imported runs, has other claims, or has one of these runs."""
    own, is_taken = study / "study.json", study.exists() and any(study.iterdir())
    before = read_json(own) if own.is_file() else {}
    if is_taken and before.get("family") != FAMILY["family"]:
        raise RecordsError(f"expected a study of imported runs or a new folder, got {study}: name another --study")
    fixed = (before.get("claims") or {}).get("sha256")
    if claims and read_claims(claims_file(claims)).sha256 != fixed and is_taken:
        raise RecordsError(f"expected the claims that {study} began with, got {claims}: leave --claims out")
    for run in runs:
        if (folder := _folder(study, run)).exists():
            said = f"expected no run of {run.arm} with seed {run.seed}, got {folder}"
            raise RecordsError(f"{said}: name another --study, --arm or --seed")


def write_runs(study: Path, runs: Sequence[Run], claims: str | None) -> list[Path]:
    """Write the runs and study.json; the runs' folders. Runs of unknown seeds get numbers that no other run has."""
    (study / "runs").mkdir(parents=True, exist_ok=True)
    if not (study / "study.json").is_file():  # written at once, so that what a killed import leaves is a study, too
        _write_json(study / "study.json", FAMILY | {"arms": [], "claims": _fixed(study, claims) if claims else None})
    seeds = [named_seed(path.name)[1] for path in (study / "runs").glob("*-seed*")]
    free, longest = 1 + max([UNKNOWN, *seeds, *(run.seed for run in runs)]), max(run.last_step for run in runs)
    for run in runs:
        if run.seed == UNKNOWN:
            run.seed, free = free, free + 1
        _write_run(study, run, longest)
    _describe(study, runs)
    return [_folder(study, run) for run in runs]


def _fixed(study: Path, claims: str) -> dict[str, str]:
    shutil.copyfile(claims_file(claims), study / "claims.toml")
    fixed, now = read_claims(study / "claims.toml"), datetime.now(UTC)
    return {"name": fixed.title, "sha256": fixed.sha256, "fixed_at": now.isoformat(timespec="seconds")}


def _folder(study: Path, run: Run) -> Path:
    return study / "runs" / f"{run.arm}-seed{run.seed}"


def _write_run(study: Path, run: Run, longest: int) -> None:
    """Beside its place first, then renamed: what a killed command left is no run."""
    made = Path(tempfile.mkdtemp(prefix=".importing-", dir=study))
    steps = {"steps": longest if run.fate else run.last_step} if len(run.metrics) or longest > 1 else {}
    config = {
        "run": {"seed": run.seed, **steps},
        "loss": {"loss_type": run.settings.get("loss_type", "")},
        "source": run.settings,
    }
    digest = sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()
    _write_json(made / "config.json", {"schema_version": SCHEMA_VERSION, "sha256": digest, "config": config})
    _write_json(made / "environment.json", {"imported": run.about})
    names = dict.fromkeys([*NEEDED_METRICS[1:], *run.metrics])
    _write_lines(made / "metrics.jsonl", run.metrics.reindex(columns=list(names)))
    _write_lines(made / "evaluations.jsonl", run.evaluations.drop(run.answers["step"].unique(), errors="ignore"))
    for step, rows in run.answers.groupby("step"):
        (made / "evals").mkdir(exist_ok=True)
        table = pa.Table.from_pandas(rows, EVAL_SCHEMA, preserve_index=False)
        pq.write_table(table, made / "evals" / f"step_{step:06d}.parquet")
    state, code = ("failed", "diverged") if run.fate else ("finished", "finished")
    ended = {"state": state, "reason_code": code, "reason": run.fate or None, "exit_code": 0}
    _write_json(made / "status.json", ended | {"steps_done": run.last_step})
    made.chmod(0o755)
    made.rename(_folder(study, run))


def _describe(study: Path, runs: Sequence[Run]) -> None:
    """study.json over all runs that are there, arms as they came; what it says of claims stays."""
    before = read_json(study / "study.json")
    losses = {row["name"]: row["loss_type"] for row in before["arms"]}
    for run in runs:
        losses.setdefault(run.arm, str(run.settings.get("loss_type", "")))
    arms: dict[str, list[int]] = {arm: [] for arm in losses}
    for arm, seed in sorted(named_seed(path.name) for path in (study / "runs").glob("*-seed*")):
        arms.setdefault(arm, []).append(seed)
    found = {
        **FAMILY,
        "claims": before["claims"],
        "arms": [{"name": a, "loss_type": losses.get(a, ""), "control": None, "seeds": arms[a]} for a in arms],
        "roles": {arm: {"label": arm} for arm in arms},
    }
    _write_json(study / "study.json", found)
    _write_json(study / "study.json", found | borne_by(read([study])))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    beside.replace(path)


def _write_lines(path: Path, table: pd.DataFrame) -> None:
    """A line a step, null where a cell is empty; no file without any."""
    rows = table.astype(object).where(table.notna(), None).reset_index().to_dict("records")
    if rows:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
