"""A source's rows -> cells under our names: which column is what, whose run a row is of, each cell as a number."""

import re
import tomllib
from argparse import Namespace
from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import RecordsError
from analysis.imports.sources import Source, read_settings

FORMATS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("formats.toml").read_text(encoding="utf-8"))
WORDS = ("arm", "seed", "run", "question", "filter")  # that hold no measurement
HELD_OUT = ("accuracy", "tokens", "n")  # of an evaluation
TRAINING = {  # and what they are called in metrics.jsonl
    "training_accuracy": "rollout/accuracy",
    "training_tokens": "rollout/response_tokens_mean",
    "seconds": "time/elapsed_s",
    "step_seconds": "time/elapsed_s",
    "generated_tokens": "ledger/generated_tokens",
}
NEEDED = {"accuracy": "held-out accuracy", "training_accuracy": "training accuracy"}  # one of them, in words
KNOWN = (*WORDS, "step", *HELD_OUT, *TRAINING)
NAMED = re.compile(r"(?P<arm>.+?)[-_ ./]*(?:seed|(?<=[-_ ./])s)[-_ =]?(?P<seed>\d+)")  # dapo-seed0, dapo_s0
SEED = re.compile(r"\d+(?:\.0*)?")
UNKNOWN = -1  # as `seed`


def parse_columns(given: list[str]) -> dict[str, str]:
    """`accuracy=val/acc,step=step` and names of files of such pairs -> by our name the source's."""
    found = dict[str, Any]()
    for text in given:
        if Path(text).suffix in (".toml", ".yaml", ".json"):
            found |= read_settings(Path(text))
        else:
            pairs = [part.partition("=") for part in re.split(r",(?=[\w/]+=)", text)]
            found |= {name.strip(): value.strip() for name, _, value in pairs}
    for name, value in found.items():
        if not value or (name not in KNOWN and "/" not in name):
            raise RecordsError(f"expected --columns NAME=COLUMN with NAME among {', '.join(KNOWN)}, got {name!r}")
    return found


def chosen(source: Source, given: Mapping[str, str]) -> dict[str, str]:
    """By our name the column of the source: as given, else the first of its format's that is there.

    Raises RecordsError where one is missing, or stands for several, as those of several evaluation sets.
    """
    there, found = list(dict.fromkeys(name for _, row in source.rows for name in row)), dict(given)
    table = FORMATS[source.kind]
    table = FORMATS.get(table.get("like", ""), {}) | table
    for ours in (name for name in table if name != "like" and name not in given):
        of_set = re.match(r"eval_(.*?)rewards?\b", found.get("accuracy", ""))
        patterns = [pattern.replace("{set}", of_set[1] if of_set else "") for pattern in table[ours]]
        matching = [[name for name in there if fnmatchcase(name, pattern)] for pattern in patterns]
        first = next(filter(None, matching), [])
        if len(first) > 1:
            some = ", ".join(first[:6])
            raise RecordsError(f"expected one column as {ours}, got {some}: choose by --columns {ours}=...")
        if first:
            found[ours] = first[0]
    if missing := [name for name in given.values() if name not in there]:
        shown = ", ".join(get_close_matches(missing[0], there, 6, 0.4) or sorted(there)[:12])
        raise RecordsError(f"expected the column {missing[0]!r} in {source.name}, got {shown}, ...: name one of these")
    if not any(name in found for name in NEEDED):
        raise RecordsError(
            f"expected an accuracy in {source.name}, got {', '.join(there[:12])}: name it with --columns "
            "accuracy=NAME (held-out) or training_accuracy=NAME"
        )
    return found


def cells_of(source: Source, name: str, given: Namespace, columns: Mapping[str, str]) -> pd.DataFrame:
    """The cells that measure something, a row each: place, arm, seed, run, question, step, name, value.

    name: of the source, which may tell arm and seed. run: what tells runs of one arm and seed apart. step: not a number
    where the source names none. Raises RecordsError for a cell that is no number, and for a run that cannot be named.
    """
    filters = list(dict.fromkeys(str(row[columns["filter"]]) for _, row in source.rows if columns.get("filter") in row))
    if filters and given.filter not in (filters if len(filters) > 1 else [None, *filters]):
        raise RecordsError(f"expected answers of one filter, got {', '.join(filters)}: choose with --filter")
    found = []
    for place, row in source.rows:
        cells = {ours: row[theirs] for ours, theirs in columns.items() if row.get(theirs) not in (None, "")}
        words = {word: str(cells.pop(word)) for word in WORDS if word in cells}
        step = _step(cells.pop("step"), place) if "step" in cells else None
        if cells and given.filter in (None, words.get("filter", given.filter)):
            arm, seed = _arm_and_seed(words, place, source.settings, name, given)
            stands_alone = seed == UNKNOWN and step is None and "question" not in words
            about = (place, arm, seed, place if stands_alone else words.get("run", ""), words.get("question"), step)
            found += [(*about, ours, _number(cell, columns[ours], place)) for ours, cell in cells.items()]
    table = pd.DataFrame(found, columns=["place", "arm", "seed", "run", "question", "step", "name", "value"])
    scores = table.loc[table["name"].isin(NEEDED), "value"]
    if not scores.map(isfinite).any():
        wanted = " or ".join(columns[name] for name in NEEDED if name in columns)
        raise RecordsError(f"expected a finite number as {wanted} in {source.name}, got none: leave it out, and say so")
    if given.percent and 0 < scores.max() <= 1:
        most = f"{scores.max():g} (a cell with % is divided by 100 anyway)"
        raise RecordsError(f"--percent: expected accuracies above 1 in {source.name}, got at most {most}: leave it out")
    table.loc[scores.index, "value"] *= 0.01 if given.percent else 1.0
    return table


def _arm_and_seed(
    words: Mapping[str, str], place: str, settings: Mapping[str, Any], name: str, given: Namespace
) -> tuple[str, int]:
    """As the command line, the row, the run's name or the settings say, in this order."""
    for flag in ("arm", "seed"):
        if getattr(given, flag) is not None and flag in words:
            raise RecordsError(f"expected --{flag} or a column of it, got both in {place}: leave one out")
    run = words.get("run", name)
    match = NAMED.fullmatch(run)
    arm = given.arm or words.get("arm") or (match and match["arm"])
    if arm is None:
        raise RecordsError(
            f"expected an arm for {run}, got none: give --arm, --columns arm=COLUMN or a name like dapo-seed0"
        )
    told = (given.seed, words.get("seed"), match and match["seed"], settings.get("seed"), settings.get("data.seed"))
    seed = next((one for one in told if one not in (None, "None", "null")), None)
    if seed is not None and not SEED.fullmatch(str(seed)):
        raise RecordsError(f"expected a whole seed of 0 or more in {place}, got {seed!r}: name the seed's column")
    return str(arm).strip().replace("/", "_"), UNKNOWN if seed is None else int(float(str(seed)))


def _number(cell: Any, name: str, place: str) -> float:
    """The cell as a number, `56 %` as 0.56."""
    text = {"true": "1", "false": "0"}.get(str(cell).lower(), str(cell).strip())
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise RecordsError(f"expected a number as {name} in {place}, got {text[:40]!r}: mend or remove it") from None


def _step(cell: Any, place: str) -> int:
    """A step, also where it stands as `3/100`."""
    found = _number(str(cell).partition("/")[0], "step", place)
    if not found >= 0 or not found.is_integer():
        raise RecordsError(f"expected a whole step of 0 or more in {place}, got {cell!r}: name the step's column")
    return int(found)
