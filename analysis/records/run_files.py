"""One run folder's files, each read and checked; what is wrong with one is said in words."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import RecordsError

SCHEMA_VERSION = 1
LENIENT = "correct_leniently"
EVAL_SCHEMA = pa.schema(
    {
        "step": pa.int32(),
        "prompt_id": pa.dictionary(pa.int32(), pa.string()),
        "sample": pa.int32(),
        "correct": pa.bool_(),
        "response_tokens": pa.int32(),
        "truncated": pa.bool_(),
        LENIENT: pa.bool_(),
    }
)
MEAN = -1  # as `sample`: the row is the mean of an evaluation whose answers are not known
EARLY_ENDS = ("diverged", "gave_up")  # reason codes of runs that ended by themselves: results, not faults
RUN_NAME = re.compile(r"(?P<arm>.+)-seed(?P<seed>\d+)")
ENVIRONMENT_FIELDS = (
    "commit",
    "dirty_diff_sha256",
    "python",
    "packages",
    "platform",
    "cpu",
    "cpu_capability",
    "gpu",
    "threads",
    "model_sha256",
    "start_from_sha256",
    "eval_prompts_sha256",
    "train_prompts_sha256",
    "task_code_sha256",
    "reward_code_sha256",
    "started_at",
)
NEEDED_METRICS = ("step", "rollout/accuracy", "ledger/generated_tokens", "time/elapsed_s")


@dataclass(frozen=True)
class RunRecords:
    """All records of one run; the tables with its name, arm and seed in every row."""

    run: str
    folder: Path
    metrics: pd.DataFrame
    evals: pd.DataFrame
    environment: dict[str, Any]
    config: dict[str, Any]
    suites: dict[str, tuple[str, ...]]


def named_seed(name: str) -> tuple[str, int]:
    """Arm and seed in a name like `fipo-seed3`; of another name itself and -1."""
    match = RUN_NAME.fullmatch(name)
    return (match["arm"], int(match["seed"])) if match else (name, -1)


def read_run(path: Path, key: Mapping[str, Any], must_have_steps: bool) -> RunRecords:
    """One run's records, labelled by the run, arm and seed of `key`. Raises RecordsError naming the damaged file."""
    config = read_json(path / "config.json", versioned=True).get("config")
    if not isinstance(config, dict) or not all(isinstance(section, dict) for section in config.values()):
        raise RecordsError(f"expected sections of settings in {path / 'config.json'}, got none: restore the file")
    metrics, environment = read_metrics(path), read_json(path / "environment.json")
    is_imported = "imported" in environment
    if metrics.empty and must_have_steps and not is_imported:
        raise RecordsError(f"expected lines in {path / 'metrics.jsonl'} of a finished run, got none: restore it")
    kept = {field: environment.get(field) for field in ENVIRONMENT_FIELDS}
    if kept["gpu"]:
        kept["gpu"] = f"{kept['gpu']}, driver {environment.get('gpu_driver')}, CUDA {environment.get('cuda')}"
    labels = {name: key[name] for name in ("run", "arm", "seed")}
    return RunRecords(
        run=str(key["run"]),
        folder=path,
        metrics=metrics.assign(**labels),
        evals=(_imported_evals(path) if is_imported else read_evals(path)).assign(**labels),
        environment={"run": key["run"], **kept},
        config=config,
        suites=suites_of(environment, path / "environment.json"),
    )


def read_json(path: Path, versioned: bool = False) -> dict[str, Any]:
    """The object in a JSON file; where `versioned`, only of the schema version that this package knows."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = f"got: {error.strerror}: is this the right folder?"
        raise RecordsError(f"expected a run or study with {path}, {why}") from None
    except (ValueError, RecursionError) as error:
        raise RecordsError(f"expected JSON in {path}, got something else ({error}): restore the file") from None
    if not isinstance(content, dict):
        raise RecordsError(f"expected a JSON object in {path}, got a {type(content).__name__}: restore the file")
    if versioned and content.get("schema_version") != SCHEMA_VERSION:
        raise RecordsError(
            f"expected schema_version {SCHEMA_VERSION} in {path}, got {content.get('schema_version')!r}: "
            "use the analysis of the commit that wrote it"
        )
    return content


def read_status(run: Path) -> dict[str, Any]:
    """State, reason and steps done; `unknown` where none was written, `diverged` of a run that ended itself."""
    if not (run / "status.json").exists():
        return {"state": "unknown", "reason": "no status.json", "steps_done": 0}
    status = read_json(run / "status.json")
    state = status.get("state", "unknown")
    if state == "failed" and status.get("reason_code") in EARLY_ENDS:
        state = "diverged"
    return {"state": state, "reason": str(status.get("reason") or ""), "steps_done": status.get("steps_done") or 0}


def read_metrics(run: Path) -> pd.DataFrame:
    """metrics.jsonl, a row per step. A torn last line, the trace of a write that was cut off, is left out.

    Empty where the run has none, as one that diverged at its first update.
    """
    path = run / "metrics.jsonl"
    table = pd.DataFrame(_lines(path) if path.is_file() else [])
    if table.empty:
        return pd.DataFrame(columns=list(NEEDED_METRICS), dtype=float)
    if missing := [key for key in NEEDED_METRICS if key not in table]:
        raise RecordsError(f"expected {', '.join(missing)} in {path}, got a file without: was it written by harness?")
    for name in table.select_dtypes(exclude="number"):
        wrong = table[name].notna() & ~table[name].map(lambda value: type(value) in (int, float))
        if wrong.any():
            line = int(wrong.to_numpy().argmax())
            got = f"{table[name].iloc[line]!r} as {name} in line {line + 1} of {path}"
            raise RecordsError(f"expected a number, got {got}: restore the file")
        table[name] = table[name].astype(float)
    falls = table["step"].isna() | (table["step"].diff() <= 0)
    if falls.any():
        line = int(falls.to_numpy().argmax())
        got = f"{table['step'].iloc[line]} in line {line + 1}"
        raise RecordsError(f"expected steps that rise in {path}, got {got}: restore the file")
    return table


def _imported_evals(run: Path) -> pd.DataFrame:
    """As `read_evals`; of an evaluation of which means alone are known one row, whose `sample` is MEAN."""
    path, parts = run / "evaluations.jsonl", list[pd.DataFrame]()
    if path.is_file() or not (run / "evals").is_dir():
        rows = [
            {"step": one["step"], "prompt_id": "all", "sample": MEAN, "correct": one["accuracy"], "truncated": None}
            | {"response_tokens": one.get("tokens", nan), LENIENT: one["accuracy"]}
            for one in (_lines(path) if path.is_file() else [])
        ]
        parts.append(pd.DataFrame(rows, columns=EVAL_SCHEMA.names))
    if (run / "evals").is_dir():
        parts.append(read_evals(run, may_lack=("response_tokens", "truncated")))
    return pd.concat(parts).astype({"step": int, **dict.fromkeys(("correct", LENIENT, "response_tokens"), float)})


def read_evals(run: Path, may_lack: Collection[str] = ()) -> pd.DataFrame:
    """All evaluations of a run, a row per answer. may_lack: the columns in which a cell may be empty."""
    tables = [_answers(file, may_lack) for file in sorted((run / "evals").glob("step_*.parquet"))]
    if not tables:
        raise RecordsError(f"expected evaluations in {run / 'evals'}, got none: a comparison needs them")
    joined: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return joined


def _answers(file: Path, may_lack: Collection[str]) -> pa.Table:
    names = EVAL_SCHEMA.names
    try:
        table = pq.ParquetFile(file).read(columns=names)
        if LENIENT not in table.column_names and "correct" in table.column_names:
            table = table.append_column(LENIENT, table["correct"])  # of a run from before there was a lenient reading
        table = table.select(names).cast(EVAL_SCHEMA)
    except (pa.ArrowException, OSError, KeyError) as error:
        got = (str(error).splitlines() or ["nothing"])[0]
    else:
        if table.num_rows and not any(table[name].null_count for name in names if name not in may_lack):
            return table
        got = "holes" if table.num_rows else "no row"
    raise RecordsError(f"expected answers with {', '.join(names)} in {file}, got {got}: restore the file")


def suites_of(environment: dict[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    """The prompt ids of each benchmark that environment.json names; none where the run's task has no data."""
    data = environment.get("data")
    if data is None:
        return {}
    try:
        return {str(name): tuple(map(str, one["prompt_ids"])) for name, one in data["evaluation"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordsError(
            f"expected the prompt_ids of each benchmark in {path}, got none ({error}): restore the file"
        ) from None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a journal, its last line only where it is whole."""
    rows = []
    lines = path.read_bytes().split(b"\n")
    for number, text in enumerate(lines, start=1):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            rows.append(row)
        elif number < len(lines) or (text.strip(b"\0 ") and text[:1] != b"{"):
            raise RecordsError(f"expected JSON objects, got {text[:40]!r} in line {number} of {path}: restore the file")
    return rows
