"""`python -m analysis import`: sources on the command line -> run folders of a study.

No run is ever written over; study.json is made anew from all that are there.
"""

import json
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import RecordsError
from analysis.imports.alike import borne_by, said_once
from analysis.imports.cells import UNKNOWN, chosen, parse_columns, table_of
from analysis.imports.readers import read_source
from analysis.imports.runs import Run, runs_of
from analysis.imports.sources import Source, read_settings
from analysis.records.claims import claims_file, read_claims
from analysis.records.run_files import EVAL_SCHEMA, NEEDED_METRICS, SCHEMA_VERSION, named_seed, read_json
from analysis.records.study import read

FAMILY = {
    "schema_version": SCHEMA_VERSION,
    "family": "imported",
    "family_description": "Runs of other trainers, imported.",
    "preset": "none",
}


def import_runs(given: Namespace) -> list[str]:
    """Read every source, check all of it, then write; the lines to print. Raises RecordsError before it writes."""
    columns, study = parse_columns(given.columns), given.study
    runs = [run for text in given.sources for run in _runs(text, given, columns)]
    keys = [(run.arm, run.seed) for run in runs if run.about["seed_known"]]
    if twice := [f"{arm} with seed {seed}" for arm, seed in keys if keys.count((arm, seed)) > 1]:
        raise RecordsError(f"expected each run once, got {twice[0]} twice: see --arm and --seed")
    _begin(study, runs, given.claims)
    seeds = [named_seed(path.name)[1] for path in (study / "runs").glob("*-seed*")]
    free, longest = 1 + max([UNKNOWN, *seeds, *(run.seed for run in runs)]), max(run.last_step for run in runs)
    for run in runs:
        if run.seed == UNKNOWN:  # a number that no other run has
            run.seed, free = free, free + 1
        _write_run(study, run, longest)
    _describe(study, runs)
    folders = [_folder(study, run) for run in runs]
    notes = said_once({path.name: run.about for path, run in zip(folders, runs, strict=True)})
    return [*map(str, folders), *notes, f"next: python -m analysis report {study}"]


def _runs(text: str, given: Namespace, columns: dict[str, str]) -> list[Run]:
    """The runs of one source, with the answers of --answers where it is one run."""
    source, path = read_source(text, given.format), Path(text)
    if given.config:
        inside = path / given.config
        source.settings |= read_settings(inside if inside.is_file() else Path(given.config))
    used = chosen(source, columns)
    table = table_of(source, path.name if path.is_dir() else path.stem, given, used)
    if given.answers:
        keys = table[["arm", "seed", "run"]].drop_duplicates()
        if len(keys) > 1:
            raise RecordsError(f"expected one run in {text} with --answers, got {len(keys)}: import them one by one")
        table = pd.concat([table, *(_answers(one, source, given.filter) for one in given.answers)])
        table[keys.columns] = keys.iloc[0].to_list()
    runs = runs_of(source, table, used)
    hashes = {str(file): sha256(file.read_bytes()).hexdigest() for file in source.files}
    for run in runs:
        run.about |= {"source": text, "sha256": hashes}
    return runs


def _answers(text: str, source: Source, wanted_filter: str | None) -> pd.DataFrame:
    """Held-out answers by question to a run whose log has means at most."""
    found = read_source(text)
    unnamed = Namespace(arm=None, seed=None, filter=wanted_filter, answers=[], percent=False)
    table = table_of(found, "run-seed0", unnamed, chosen(found, {}))
    if table["question"].isna().any():
        raise RecordsError(f"expected answers by question in {text}, got {found.kind} without: name it as SOURCE")
    source.files += found.files
    source.notes += found.notes
    return table


def _begin(study: Path, runs: Sequence[Run], claims: str | None) -> None:
    """Make the study where there is none, so that what a killed import leaves is one, too.

    Raises RecordsError where it is none of imported runs, has other claims, or has one of these runs.
    """
    own = study / "study.json"
    before = read_json(own) if own.is_file() else {}
    is_taken = study.exists() and (not study.is_dir() or any(study.iterdir()))
    if is_taken and before.get("family") != FAMILY["family"]:
        raise RecordsError(f"expected a study of imported runs or a new folder, got {study}: name another --study")
    asked = read_claims(claims_file(claims)) if claims else None
    if asked and is_taken and asked.sha256 != (before["claims"] or {}).get("sha256"):
        raise RecordsError(f"expected the claims that {study} began with, got {claims}: leave --claims out")
    for run in runs:
        if (folder := _folder(study, run)).exists():
            said = f"expected no run of {run.arm} with seed {run.seed}, got {folder}"
            raise RecordsError(f"{said}: name another --study, --arm or --seed")
    try:
        (study / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordsError(
            f"--study: expected a folder to write to, got {study} ({error.strerror}): name another"
        ) from None
    if is_taken:
        return
    if claims:
        shutil.copyfile(claims_file(claims), study / "claims.toml")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    fixed = {"name": asked.title, "sha256": asked.sha256, "fixed_at": now} if asked else None
    _write_json(own, FAMILY | {"arms": [], "claims": fixed})


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
