"""One run folder's files, each read and checked; what is wrong with one is said in words."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import RecordsError

SCHEMA_VERSION = 1
EVAL_COLUMNS = ["step", "prompt_id", "sample", "correct", "response_tokens", "truncated"]
DIVERGED = "expected finite numbers"  # so begins the reason of a run that was ended by an infinity or NaN
NEEDED_METRICS = ("step", "rollout/accuracy", "ledger/generated_tokens", "time/elapsed_s")


def read_json(path: Path, versioned: bool = False) -> dict[str, Any]:
    """The object in a JSON file; where `versioned`, only of the schema version that this package knows."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordsError(f"expected a run or study with {path}, got none: is this the right folder?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
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
    """State, reason and steps done; a run that never wrote its status is `unknown`, and a failure may be `diverged`."""
    if not (run / "status.json").exists():
        return {"state": "unknown", "reason": "no status.json", "steps_done": 0}
    status = read_json(run / "status.json")
    reason = status.get("reason") or ""
    state = status.get("state", "unknown")
    if state == "failed" and DIVERGED in str(reason):
        state = "diverged"
    return {"state": state, "reason": str(reason), "steps_done": status.get("steps_done") or 0}


def read_metrics(run: Path) -> pd.DataFrame:
    """metrics.jsonl, a row per step. A torn last line, the trace of a write that was cut off, is left out."""
    read_json(run / "config.json", versioned=True)
    path = run / "metrics.jsonl"
    if not path.exists():
        raise RecordsError(f"expected {path} in a finished run, got none: restore it or start the run again")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [_line(text, number, path) for number, text in enumerate(lines[:-1], start=1)]
    rows += _last_line(lines)
    table = pd.DataFrame(rows)
    missing = [key for key in NEEDED_METRICS if key not in table]
    if missing:
        raise RecordsError(f"expected {', '.join(missing)} in {path}, got a file without: was it written by harness?")
    return table


def read_evals(run: Path) -> pd.DataFrame:
    """All evaluations of a run, a row per answer."""
    files = sorted((run / "evals").glob("step_*.parquet"))
    if not files:
        raise RecordsError(f"expected evaluations in {run / 'evals'}, got none: a comparison needs them")
    try:
        return pd.concat([pd.read_parquet(file, columns=EVAL_COLUMNS) for file in files], ignore_index=True)
    except (ValueError, KeyError, OSError) as error:
        words = str(error).splitlines()[0]
        raise RecordsError(f"expected the columns {', '.join(EVAL_COLUMNS)} in {run / 'evals'}, got: {words}") from None


def _line(text: str, number: int, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (json.JSONDecodeError, TypeError, ValueError):
        raise RecordsError(f"expected JSON in line {number} of {path}, got {text[:40]!r}: restore the file") from None


def _last_line(lines: list[str]) -> list[dict[str, Any]]:
    try:
        return [dict(json.loads(lines[-1]))]
    except (json.JSONDecodeError, IndexError, TypeError, ValueError):
        return []
