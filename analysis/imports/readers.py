"""What TRL, ms-swift, verl, lm-eval, MLflow and W&B leave behind -> rows.

Left out on purpose: training_args.bin, a pickle; the text of completions; TRL's completions/, where the last answers of
an evaluation take the place of those that the step was trained on.
"""

import ast
import csv
import json
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from fnmatch import fnmatchcase
from io import StringIO
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.errors import RecordsError
from analysis.imports.sources import Row, Source, flat, json_lines, json_object, read_text

STATE = ("max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps")  # settings in TRL's state
EVAL_SET = re.compile(r"eval_(.+)_runtime")  # of a row about one of several evaluation sets
RAY = re.compile(r"^(?:\x1b\[\d+m)*\(\w+ pid=[^)]*\)(?:\x1b\[\d+m)* ?")  # what Ray puts before an actor's lines
STEP = re.compile(r"(?:^|\s)step:(\d+) - (.+)")
NUMPY = re.compile(r"(?:np\.)?\w+\(([^()]*)\)")  # as numpy 2 and torch print a number
SAMPLES = re.compile(r"samples_(.+?)(?:_\d{4}-\d\d-\d\dT[\d.-]+)?\.jsonl")
DUMPED = re.compile(r"\d+\.jsonl")  # of verl's validation_data_dir, by step
ENVIRONMENT = {  # of MLflow: that it opens a folder mlruns, and does not wait minutes for a server that is not there
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
MOST_RUNS = 50_000  # of an experiment, as many as MLflow hands out
TOLD = ("config", "versions", "n-shot")  # of lm-eval's results: what the scores depend on
BY_NAME = {  # ms-swift leaves a trainer_state.json too
    "logging.jsonl": "swift",
    "trainer_state.json": "trl",
    "meta.yaml": "mlflow",
    "samples_*.jsonl": "lm-eval",
    "results*.json": "lm-eval",
    "*.csv": "csv",
    "*.tsv": "csv",
    "*.db": "mlflow",
    "*.sqlite": "mlflow",
}


def read_source(text: str, kind: str | None = None) -> Source:
    """What lies at a path or an address. Raises RecordsError where that is nothing, or no log of a run that began."""
    path = Path(text)
    if "://" not in text and not (text and path.exists()):
        raise RecordsError(f"expected a file or folder, got {text!r}, where there is none: name another")
    kind = kind or ("mlflow" if "://" in text else _kind_of(path))
    source = read_mlflow(text) if kind == "mlflow" else READERS[kind](path)
    if not source.rows:
        raise RecordsError(f"expected logged rows in {text}, got none: is it the log, and of a run that began?")
    return source


def _kind_of(source: Path) -> str:
    """The format of a file or folder, by the names in it or by its lines."""
    names = {path.name for path in source.rglob("*")} if source.is_dir() else {source.name}
    for name, kind in BY_NAME.items():
        if any(fnmatchcase(one, name) for one in names):
            return kind
    if any(map(DUMPED.fullmatch, names)):
        return "verl-answers"
    text = "" if source.is_dir() else read_text(source)
    if '"global_step/max_steps"' in text:
        return "swift"
    if text.startswith('{"step":') or any(map(STEP.search, text.splitlines())):
        return "verl"
    raise RecordsError(f"expected the log or output folder of a trainer, got {source}: name its --format (--help)")


def read_trl(folder: Path) -> Source:
    """The history in the latest checkpoint's trainer_state.json of one output folder."""
    found = sorted(folder.rglob("trainer_state.json")) if folder.is_dir() else [folder]
    _check_one({path.parents[path.parent.name.startswith("checkpoint-")] for path in found}, folder)
    states = {path: json_object(path) for path in found}
    path = max(states, key=lambda path: states[path].get("global_step") or 0)
    history = states[path].get("log_history")
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise RecordsError(f"expected a log_history of objects in {path}, got something else: name another file")
    rows = [(f"log_history[{place}] of {path}", _of_its_set(row)) for place, row in enumerate(history)]
    return Source("trl", str(path), rows, [path], {name: states[path].get(name) for name in STATE})


def read_swift(folder: Path) -> Source:
    """logging.jsonl, and the settings of the args.json beside it."""
    found = sorted(folder.rglob("logging.jsonl")) if folder.is_dir() else [folder]
    _check_one(set(found), folder)
    path, notes, args = found[0], list[str](), found[0].with_name("args.json")
    rows = [(place, _of_its_set(row)) for place, row in json_lines(path, notes) if "log_history" not in row]
    settings = flat(json_object(args)) if args.is_file() else {}
    return Source("swift", str(path), rows, [path, args] if settings else [path], settings, notes)


def _check_one(runs: set[Path], folder: Path) -> None:
    if len(runs) != 1:
        got = ", ".join(sorted(map(str, runs))[:2]) or "none"
        raise RecordsError(f"expected the output folder of one run in {folder}, got {got}: name each run's own")


def _of_its_set(row: Row) -> Row:
    """A row whose metrics of an evaluation all have the set's name; of several sets, TRL names theirs alike."""
    name = next((match[1] for match in map(EVAL_SET.fullmatch, row) if match), None)
    if name is None:
        return row
    bare = {key for key in row if key.startswith("eval_") and not key.startswith(f"eval_{name}_")}
    return {f"eval_{name}_{key.removeprefix('eval_')}" if key in bare else key: row[key] for key in row}


def read_verl(path: Path) -> Source:
    """The `step:N - key:value` lines of a console log and the config printed before them; or verl's file logger."""
    notes = list[str]()
    if path.suffix == ".jsonl":
        rows = [(place, {**row.get("data", {}), "step": row.get("step")}) for place, row in json_lines(path, notes)]
        return Source("verl", str(path), rows, [path], {}, notes)
    lines = [RAY.sub("", line) for line in read_text(path).splitlines()]
    found = [(f"line {number} of {path}", STEP.search(line)) for number, line in enumerate(lines, start=1)]
    rows = [(place, {"step": match[1]} | dict(_parts(match[2]))) for place, match in found if match]
    return Source("verl", str(path), rows, [path], flat(_printed_config(lines)))


def _parts(text: str) -> Iterator[tuple[str, str]]:
    for part in text.split(" - "):
        name, colon, value = part.rpartition(":")
        if colon:
            match = NUMPY.fullmatch(value.strip())
            yield name.strip(), match[1] if match else value.strip()


def _printed_config(lines: list[str]) -> Row:
    """The first nested dict that is printed over several lines, indented after the first; none where there is none."""
    for start, line in enumerate(lines):
        if line.startswith("{'"):
            block = [line, *takewhile(lambda one: one.startswith(" "), lines[start + 1 :])]
            try:
                found = ast.literal_eval("\n".join(block))
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(found, dict) and any(isinstance(value, dict) for value in found.values()):
                return {str(name): value for name, value in found.items()}
    return {}


def read_dumped(source: Path) -> Source:
    """verl's validation_data_dir, or one file of it: a question's answer a line, a file a step."""
    folder, notes = source.is_dir(), list[str]()
    files = sorted(path for path in source.iterdir() if DUMPED.fullmatch(path.name)) if folder else [source]
    rows = [row for path in files for row in json_lines(path, notes)]
    return Source("verl-answers", str(source), rows, files, {}, notes)


def read_lm_eval(source: Path) -> Source:
    """The samples of --log_samples, a row an answer; without any the scores of the results file, a row a filter."""
    files = sorted(source.rglob("*.json*")) if source.is_dir() else [source]
    samples = {path: match[1] for path in files if (match := SAMPLES.fullmatch(path.name))}
    results = [path for path in files if path.suffix == ".json" and path.name.startswith("results")]
    if len(results) > 1 or len(set(samples.values())) < len(samples):
        raise RecordsError(f"expected one evaluation in {source}, got several files of a task: name one's folder")
    told, notes, rows = json_object(results[0]) if results else {}, list[str](), []
    for path, task in samples.items():
        for place, row in json_lines(path, notes):
            question = str(row.get("doc_hash") or json.dumps(row.get("doc"), sort_keys=True))[:16]
            rows.append((place, {**row, "question": f"{task}/{row.get('doc_id')}-{question}"}))
    if not samples and results:
        try:
            rows = [(f"{results[0]}, filter {row['filter']}", row) for row in _of_filters(told)]
        except AttributeError:
            raise RecordsError(f"expected results of lm-eval in {results[0]}, got others: name another file") from None
    settings = flat({name: told.get(name, {}) for name in TOLD})
    return Source("lm-eval", str(source), rows, [*samples, *results], settings, notes)


def _of_filters(told: Row) -> Iterable[Row]:
    """The scores of `metric,filter`, a row a filter, under the names `task/metric`; `n` of one task alone."""
    counts = [of.get("effective") for of in told.get("n-samples", {}).values()]
    by_filter = dict[str, Row]()
    for task, scores in told.get("results", {}).items():
        for key, value in scores.items():
            metric, comma, name = key.partition(",")
            if comma:
                row = by_filter.setdefault(name, {"filter": name, "n": counts[0] if len(counts) == 1 else None})
                row[f"{task}/{metric}"] = value
    return by_filter.values()


def read_csv(path: Path) -> Source:
    """A table with a head, cells as text, between commas, semicolons or tabs.

    Columns `RUN - METRIC`, as of W&B, and the pair `key` and `value`, as of MLflow, become a column a metric.
    """
    text, rows = read_text(path), list[tuple[str, Row]]()
    if "\ufffd" in text:
        raise RecordsError(f"expected a table in UTF-8 or UTF-16, got other bytes in {path}: save it as UTF-8")
    csv.field_size_limit(2**31 - 1)  # a cell may hold a whole response
    reader = csv.reader(StringIO(text, newline=""), delimiter=max(",;\t", key=text.partition("\n")[0].count))
    names = [name.strip() for name in next(reader, [])]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RecordsError(f"expected each column once in {path}, got {twice[0]!r} twice: rename one")
    for cells in (cells for cells in reader if any(map(str.strip, cells))):
        place = f"line {reader.line_num} of {path}"
        if len(cells) != len(names):
            raise RecordsError(f"expected {len(names)} cells in {place}, got {len(cells)}: mend the line")
        row = dict(zip(names, map(str.strip, cells), strict=True))
        rows.append((place, row | {row["key"]: row["value"]} if {"key", "value"} <= row.keys() else row))
    if charted := [name.rpartition(" - ") for name in names if f"{name}__MIN" in names and " - " in name]:
        rows = [
            (place, {"run": run, "step": row[names[0]], metric: row[f"{run} - {metric}"]})
            for run, _, metric in charted
            for place, row in rows
        ]
    return Source("csv", str(path), rows, [path])


def read_mlflow(source: str) -> Source:
    """Every run of a store that has a metric: a row a point, with its `metrics.`, `params.` and `tags.`."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    path, rows = Path(source), list[tuple[str, Row]]()
    try:
        with TemporaryDirectory() as copies:  # MLflow makes its tables in what it opens
            client = MlflowClient(tracking_uri=_copied(path, Path(copies)) if path.exists() else source)
            for experiment in client.search_experiments():
                for run in client.search_runs([experiment.experiment_id], max_results=MOST_RUNS):
                    rows += _of_run(client, run)
    except (MlflowException, OSError, sqlite3.Error) as error:
        words = str(error).splitlines()[0]
        raise RecordsError(f"expected an MLflow store at {source}, got: {words}: mend that") from None
    return Source("mlflow", source, rows, [one for one in (path, *sorted(path.rglob("*"))) if one.is_file()])


def _copied(store: Path, folder: Path) -> str:
    """The address of a copy of a database or of a folder mlruns."""
    if store.is_dir():
        return shutil.copytree(store, folder / "mlruns", ignore=shutil.ignore_patterns("artifacts")).as_uri()
    address = f"{store.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as own, closing(sqlite3.connect(folder / "copy.db")) as copy:
        own.backup(copy)
    return f"sqlite:///{folder / 'copy.db'}"


def _of_run(client: Any, run: Any) -> Iterator[tuple[str, Row]]:
    about = {f"params.{name}": value for name, value in run.data.params.items()}
    about |= {f"tags.{name}": value for name, value in run.data.tags.items() if not name.startswith("mlflow.")}
    name = run.info.run_name or run.info.run_id
    for metric in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, metric):
            row = {"run": name, "step": point.step, f"metrics.{metric}": point.value}
            yield f"{metric} at step {point.step} of run {name}", row | about


READERS: dict[str, Callable[[Path], Source]] = {
    "csv": read_csv,
    "trl": read_trl,
    "swift": read_swift,
    "verl": read_verl,
    "verl-answers": read_dumped,
    "lm-eval": read_lm_eval,
}
