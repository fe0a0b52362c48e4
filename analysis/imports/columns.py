"""A source's names -> ours: which column is what, and each cell as a number."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from pathlib import Path
from typing import Any

from analysis.errors import RecordsError
from analysis.imports.sources import Row, Source

FORMATS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("formats.toml").read_text(encoding="utf-8"))
APART, LOSS = (tuple(FORMATS["settings"][name]) for name in ("apart", "loss"))
WORDS = ("arm", "seed", "run", "question", "task", "filter")  # that hold no measurement
MEASURES = {  # ours, and what it is called in metrics.jsonl; None: of a held-out evaluation
    "accuracy": None,
    "tokens": None,
    "n": None,
    "training_accuracy": "rollout/accuracy",
    "training_tokens": "rollout/response_tokens_mean",
    "seconds": "time/elapsed_s",
    "step_seconds": "time/elapsed_s",
    "generated_tokens": "ledger/generated_tokens",
}
NEEDED = ("accuracy", "training_accuracy")


@dataclass
class Line:
    """A row under our names. values: numbers; words: what holds no measurement; step: None where the row has none."""

    place: str
    step: int | None
    words: dict[str, str]
    values: dict[str, float]
    row: Row


def parse_columns(given: list[str]) -> dict[str, str]:
    """`accuracy=val/acc,step=step` and names of TOML files -> by our name the source's."""
    found = dict[str, str]()
    for text in given:
        path = Path(text)
        if path.suffix == ".toml":
            try:
                pairs = [(name, str(value)) for name, value in tomllib.loads(path.read_text(encoding="utf-8")).items()]
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise RecordsError(f"expected a TOML file of columns, got {path}: {error}") from None
        else:
            parts = [part.partition("=") for part in re.split(r",(?=[\w/]+=)", text)]
            pairs = [(name.strip(), value.strip()) for name, _, value in parts]
        for name, value in pairs:
            known = (*WORDS, "step", *MEASURES)
            if not value or (name not in known and "/" not in name):
                raise RecordsError(f"expected --columns NAME=COLUMN with NAME among {', '.join(known)}, got {name!r}")
            found[name] = value
    return found


def chosen(source: Source, given: Mapping[str, str]) -> dict[str, str]:
    """By our name the column of the source: as given, else the first of its format's that is there."""
    there = list(dict.fromkeys(name for _, row in source.rows for name in row))
    table = FORMATS[source.kind]
    patterns = {**FORMATS.get(table.get("like", ""), {}), **table}
    found = dict[str, str]()
    for ours, names in patterns.items():
        if ours == "like" or ours in given:
            continue
        for pattern in names:
            if matching := [name for name in there if fnmatchcase(name, pattern)]:
                if len(matching) > 1 and "*" in pattern:
                    some = ", ".join(matching[:6])
                    raise RecordsError(f"expected one column as {ours}, got {some}: choose by --columns {ours}=...")
                found[ours] = matching[0]
                break
    if missing := [name for name in given.values() if name not in there]:
        shown = ", ".join(sorted(there)[:12]) + (", ..." if len(there) > 12 else "")
        raise RecordsError(f"expected the column {missing[0]!r} in {source.name}, got {shown}: name one of these")
    return found | dict(given)


def lines_of(source: Source, columns: Mapping[str, str], scale: float) -> list[Line]:
    """The rows that measure something, under our names. Raises RecordsError for a cell that is no number."""
    if not any(name in columns for name in NEEDED):
        there = ", ".join(list(dict.fromkeys(name for _, row in source.rows for name in row))[:12])
        raise RecordsError(
            f"expected an accuracy in {source.name}, got {there}: name it with --columns accuracy=NAME (held-out) or "
            "training_accuracy=NAME"
        )
    lines = []
    for place, row in source.rows:
        cells = {ours: row[name] for ours, name in columns.items() if row.get(name) not in (None, "")}
        words = {name: str(cells[name]) for name in WORDS if name in cells}
        values = {
            name: number(cell, columns[name], place, name in NEEDED)
            for name, cell in cells.items()
            if name not in (*WORDS, "step")
        }
        values |= {name: values[name] * scale for name in NEEDED if name in values}
        if values:
            step = _step(cells["step"], place) if "step" in cells else None
            lines.append(Line(place, step, words, values, row))
    if not any(name in line.values for line in lines for name in NEEDED):
        raise RecordsError(
            f"expected a number as {' or '.join(columns[n] for n in NEEDED if n in columns)} in "
            f"{source.name}, got none: is the run evaluated?"
        )
    return lines


def number(cell: Any, name: str, place: str, must_be_finite: bool) -> float:
    """The cell as a number, `56 %` as 0.56; not a number only where that may be."""
    text = str(cell).strip()
    try:
        found = (
            float(text.removesuffix("%")) / (100 if text.endswith("%") else 1) if not isinstance(cell, bool) else cell
        )
    except ValueError:
        found = {"true": 1.0, "false": 0.0}.get(text.lower())  # type: ignore[assignment]
    if found is None or (must_be_finite and not isfinite(found)):
        raise RecordsError(f"expected a number as {name} in {place}, got {text[:40]!r}: mend or remove it")
    return float(found)


def _step(cell: Any, place: str) -> int:
    """A step, also where it stands as `3/100`."""
    found = number(str(cell).partition("/")[0], "step", place, must_be_finite=True)
    if found < 0 or found != int(found):
        raise RecordsError(f"expected a whole step of 0 or more in {place}, got {cell!r}: name the step's column")
    return int(found)
