"""What lm-eval, MLflow, W&B and spreadsheets leave behind -> rows."""

import json
import logging
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.errors import RecordsError
from analysis.imports.sources import Row, Source, csv_rows, flat, json_lines
from analysis.records.run_files import read_json

SAMPLES = re.compile(r"samples_(.+?)(?:_\d{4}-\d\d-\d\dT[\d.-]+)?\.jsonl")
TOLD = ("config", "versions", "n-shot")  # of a results file: what the scores depend on


def read_lm_eval(source: Path) -> Source:
    """The samples of --log_samples, a row an answer; without any the scores of the results file, a row a metric."""
    files = sorted(source.rglob("*.json*")) if source.is_dir() else [source]
    samples = [path for path in files if SAMPLES.fullmatch(path.name)]
    results = [path for path in files if path.suffix == ".json" and path.name.startswith("results")]
    notes, contents = list[str](), [read_json(path) for path in results]
    tasks = [SAMPLES.sub(r"\1", path.name) for path in samples]
    if twice := [task for task in tasks if tasks.count(task) > 1] or (["results"] if len(results) > 1 else []):
        raise RecordsError(f"expected one evaluation in {source}, got several files of {twice[0]}: name one's folder")
    settings = {
        name: value for content in contents for name, value in flat({key: content.get(key, {}) for key in TOLD}).items()
    }
    rows = [row for path, task in zip(samples, tasks, strict=True) for row in _answers(path, task, notes)]
    if not samples:
        rows = [row for path, content in zip(results, contents, strict=True) for row in _scores(path, content)]
    return Source("lm-eval", rows, [*samples, *results], settings, notes)


def _answers(path: Path, task: str, notes: list[str]) -> list[tuple[str, Row]]:
    rows = []
    for place, row in json_lines(path, notes):
        question = str(row.get("doc_hash") or json.dumps(row.get("doc"), sort_keys=True))[:16]
        rows.append((place, {**row, "task": task, "question": f"{task}/{row.get('doc_id')}-{question}"}))
    return rows


def _scores(path: Path, content: Row) -> list[tuple[str, Row]]:
    """One row: every task's scores as `TASK/METRIC,FILTER`, and the number of answers where one task is scored."""
    scores = {f"{task}/{name}": value for task, of in content.get("results", {}).items() for name, value in of.items()}
    counts = [of.get("effective") for of in content.get("n-samples", {}).values()]
    return [(str(path), scores | {"n": counts[0] if len(counts) == 1 else None})] if scores else []


def read_csv(path: Path) -> Source:
    """A table; an export of a W&B chart, with columns `RUN - METRIC`, as a row a run and step."""
    rows = csv_rows(path)
    names = list(rows[0][1]) if rows else []
    charted = [name for name in names if f"{name}__MIN" in names and " - " in name]
    if charted:
        step, split = names[0], {name: name.rpartition(" - ") for name in charted}
        rows = [
            (place, {"run": run, "step": row[step], metric: row[name]})
            for name, (run, _, metric) in split.items()
            for place, row in rows
            if row[name]
        ]
    return Source("csv", rows, [path])


def read_mlflow(source: str) -> Source:
    """Every run of a store that has a metric: a row a step, with its `metrics.`, `params.` and `tags.`."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # or it opens no folder mlruns
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    path, rows = Path(source), list[tuple[str, Row]]()
    try:
        with TemporaryDirectory() as copies:  # MLflow makes its tables in what it opens
            client = MlflowClient(tracking_uri=_copied(path, Path(copies)) if path.exists() else source)
            for experiment in client.search_experiments():
                for run in client.search_runs([experiment.experiment_id]):
                    rows += _of_run(client, run)
    except (MlflowException, OSError, sqlite3.Error) as error:
        words = str(error).splitlines()[0]
        raise RecordsError(f"expected an MLflow store at {source}, got: {words}: mend that") from None
    files = (
        [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else []
    )
    return Source("mlflow", rows, files)


def _copied(store: Path, folder: Path) -> str:
    """The address of a copy of a database or of a folder mlruns."""
    if store.is_dir():
        return shutil.copytree(store, folder / "mlruns", ignore=shutil.ignore_patterns("artifacts")).as_uri()
    address = f"{store.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as own, closing(sqlite3.connect(folder / "copy.db")) as copy:
        own.backup(copy)
    return f"sqlite:///{folder / 'copy.db'}"


def _of_run(client: Any, run: Any) -> list[tuple[str, Row]]:
    about = {f"params.{name}": value for name, value in run.data.params.items()}
    about |= {f"tags.{name}": value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    name, found = run.info.run_name or run.info.run_id, list[tuple[str, Row]]()
    for metric in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, metric):
            row = {"run": name, "step": point.step, f"metrics.{metric}": point.value}
            found.append((f"{metric} at step {point.step} of run {name}", row | about))
    return found
