"""A source's rows -> a table under our names: which column is what, whose run a row is of, each cell as a number."""

import re
import tomllib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import RecordsError
from analysis.imports.sources import Row, Source, read_settings

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
MOST_STEPS = 2**31
ROUNDED = 1 + 1e-6  # a share may be a mean in float32
SEED = re.compile(r"(\d+)(?:\.0*)?")
REWARD = re.compile(r"reward|score", re.IGNORECASE)  # named so, it need not be a share of right answers
SHARE = re.compile(r"acc|correct|exact_match|pass@", re.IGNORECASE)
FEW = 12  # names that an error lists whole
UNKNOWN = -1  # as `seed`


def parse_columns(given: list[str]) -> dict[str, str]:
    """`accuracy=val/acc,step=step` and names of files of such pairs -> by our name the source's."""
    found = dict[str, Any]()
    for text in given:
        if Path(text).suffix in (".toml", ".yaml", ".yml", ".json"):
            found |= read_settings(Path(text))
        else:
            pairs = [part.partition("=") for part in re.split(r",(?=[\w/]+=)", text)]
            found |= {name.strip(): value.strip() for name, _, value in pairs}
    for name, value in found.items():
        if not isinstance(value, str) or not value or (name not in KNOWN and "/" not in name):
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
            raise RecordsError(f"expected one column as {ours}, got {some_of(first)}: choose by --columns {ours}=...")
        if first:
            found[ours] = first[0]
    if missing := [name for name in given.values() if name not in there]:
        got = some_of(there, missing[0])
        raise RecordsError(f"expected the column {missing[0]!r} in {source.name}, got {got}: name one of these")
    if not any(name in found for name in NEEDED):
        raise RecordsError(
            f"expected an accuracy in {source.name}, got {some_of(there, 'acc')}: name it with --columns "
            "accuracy=NAME (held-out) or training_accuracy=NAME"
        )
    return found


def some_of(names: list[str], wanted: str = "") -> str:
    """All names where they are few, else those that come nearest to what was wanted."""
    if len(names) <= FEW:
        return ", ".join(names)
    near = [name for name in names if wanted.lower() in name.lower()] or get_close_matches(wanted, names, 6, 0.4)
    return f"{len(names)} names, such as {', '.join((near or sorted(names))[:6])}"


def table_of(source: Source, name: str, given: Namespace, columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows that measure something under our names, by place: arm, seed, run, question, step, and what is measured.

    name: of the source, which may tell arm and seed. run: what tells runs of one arm and seed apart. Not a number: a
    step that the source does not name, and empty cells. Infinite: numbers that are not finite. Raises RecordsError for
    a cell that is no number, and for a run that cannot be named.
    """
    measured = [ours for ours in columns if ours not in (*WORDS, "step")]
    found, places = list[dict[str, Any]](), list[str]()
    for place, row in _of_filter(source, given, columns):
        cells = {ours: str(row[theirs]) for ours, theirs in columns.items() if row.get(theirs) not in (None, "")}
        if cells.keys() & measured:
            numbers = {ours: _number(cells[ours], columns[ours], place) for ours in measured if ours in cells}
            arm, seed = _arm_and_seed(cells, place, source.settings, name, given)
            stands_alone = seed == UNKNOWN and not cells.keys() & {"step", "question"}
            about = {"arm": arm, "seed": seed, "run": place if stands_alone else cells.get("run", "")}
            step = _step(cells["step"], place) if "step" in cells else nan
            found.append(about | {"question": cells.get("question"), "step": step} | numbers)
            places.append(place)
    table = pd.DataFrame(found, places, ["arm", "seed", "run", "question", "step", *measured])
    return _as_shares(table, source, given.percent, {name: columns[name] for name in NEEDED if name in columns})


def _of_filter(source: Source, given: Namespace, columns: Mapping[str, str]) -> list[tuple[str, Row]]:
    """The rows that --filter leaves; all of a source without filters, where it is for --answers."""
    column, scores = columns.get("filter"), [columns[name] for name in NEEDED if name in columns]
    there = list(dict.fromkeys(str(row[column]) for _, row in source.rows if column in row and row.keys() & scores))
    if (given.filter or len(there) > 1) and given.filter not in there and (there or not given.answers):
        got = f"--filter {given.filter}" if given.filter else "no --filter"
        if not there:
            raise RecordsError(f"expected no --filter, as there is none in {source.name}, got {got}: leave it out")
        raise RecordsError(f"expected one of the filters {there} in {source.name}, got {got}: choose one of them")
    if not there or given.filter is None:
        return source.rows
    return [(place, row) for place, row in source.rows if str(row.get(str(column), given.filter)) == given.filter]


def _as_shares(table: pd.DataFrame, source: Source, is_percent: bool, scores: Mapping[str, str]) -> pd.DataFrame:
    """The table with accuracies divided by 100 where they are given in percent; scores: their columns."""
    ends = table[list(scores)].replace(inf, nan).agg(["min", "max"]).dropna(axis="columns")
    if ends.empty:
        wanted = " or ".join(scores.values())
        raise RecordsError(f"expected a finite number as {wanted} in {source.name}, got none: leave it out, and say so")
    if is_percent and 0 < max(ends.loc["max"]) <= 1:
        got = f"at most {max(ends.loc['max']):g} (a cell with % is divided by 100 anyway)"
        raise RecordsError(f"--percent: expected accuracies above 1 in {source.name}, got {got}: leave it out")
    for ours, (low, high) in ends.items():
        column, is_maybe = scores[str(ours)], low >= 0 and ROUNDED < high <= 100
        if is_percent:
            table = table.assign(**{str(ours): table[ours] / 100})
        elif is_maybe and not REWARD.search(column):
            got = f"up to {high:g} as {column}: in percent? then --percent"
            raise RecordsError(f"expected accuracies from 0 to 1 in {source.name}, got {got}")
        elif table["question"].isna().any():  # of answers each is checked
            source.notes += _doubts(column, NEEDED[str(ours)], low < 0 or high > ROUNDED, is_maybe)
    return table


def _doubts(column: str, words: str, is_beyond: bool, is_maybe_percent: bool) -> Iterator[str]:
    """Why what stands for accuracy may be none."""
    if is_beyond:
        hint = " (in percent? then --percent)" if is_maybe_percent else ""
        yield f"{column} goes beyond 0 and 1, so it is no share of right answers{hint}; it stands for {words}"
    elif REWARD.search(column) and not SHARE.search(column):
        yield f"{column} is a reward, which need not be the share of right answers; it stands for {words}"


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
    whole = SEED.fullmatch(str(seed))
    if seed is not None and not whole:
        raise RecordsError(f"expected a whole seed of 0 or more in {place}, got {seed!r}: name the seed's column")
    return str(arm).strip().replace("/", "_"), int(whole[1]) if whole else UNKNOWN


def _number(cell: str, name: str, place: str) -> float:
    """The cell as a number, `56 %` as 0.56, and one that is not finite as infinite."""
    text = {"true": "1", "false": "0"}.get(cell.lower(), cell.strip())
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        return number if isfinite(number) else inf
    except ValueError:
        raise RecordsError(f"expected a number as {name} in {place}, got {text[:40]!r}: mend or remove it") from None


def _step(cell: str, place: str) -> int:
    """A step, also where it stands as `3/100`."""
    found = _number(cell.partition("/")[0], "step", place)
    if not 0 <= found < MOST_STEPS or not found.is_integer():
        raise RecordsError(f"expected a whole step of 0 or more in {place}, got {cell!r}: name the step's column")
    return int(found)
