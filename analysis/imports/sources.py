"""A source's rows as they stand there, each with its place, before anything of them is understood."""

import codecs
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from analysis.errors import RecordsError

Row = dict[str, Any]
MOST_ALIASES = 16  # in a YAML file: few of them can stand for more text than any memory holds


@dataclass
class Source:
    """What was read.

    kind: a table of formats.toml. name: what an error calls it. rows: each with its place in words. files: all that was
    read. settings: flat, by dotted name. notes: what of it was not taken as it stands.
    """

    kind: str
    name: str
    rows: list[tuple[str, Row]]
    files: list[Path]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 where it begins with its mark; bytes that are neither are replaced."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordsError(f"expected a file, got {path} ({error.strerror}): name one that can be read") from None
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_wide else "utf-8-sig", errors="replace")
    if "\0" in text[:100]:
        raise RecordsError(f"expected text in UTF-8 or UTF-16 in {path}, got other bytes: export it as text")
    return text


def json_object(path: Path) -> Row:
    """The object in a JSON file."""
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise RecordsError(f"expected JSON in {path}, got something else ({error}): restore the file") from None
    if not isinstance(found, dict):
        raise RecordsError(f"expected a JSON object in {path}, got a {type(found).__name__}: name another file")
    return found


def json_lines(path: Path, notes: list[str]) -> Iterator[tuple[str, Row]]:
    """The objects of a file, a line each; a torn last line, the trace of a write that was cut off, is left out."""
    lines = read_text(path).split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line.strip("\0 \r") or "null")
        except (ValueError, RecursionError):
            found = line
        if isinstance(found, dict):
            yield f"line {number} of {path}", found
        elif found is not None and 1 < number == len(lines):
            notes.append(f"{path.name}: the last line is torn and was left out")
        elif found is not None:
            got = f"{line[:40]!r}: mend or remove it"
            raise RecordsError(f"expected a JSON object in line {number} of {path}, got {got}")


def read_settings(path: Path) -> Row:
    """Settings by dotted name from YAML, JSON or TOML. Of YAML no object is built: its values are text."""
    text = read_text(path)
    try:
        if path.suffix == ".toml":
            return flat(tomllib.loads(text))
        if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)) > MOST_ALIASES:
            raise RecordsError(f"expected at most {MOST_ALIASES} aliases in {path}, got more: write their values out")
        found = yaml.load(text, yaml.BaseLoader)
        if isinstance(found, dict):
            return flat(found)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise RecordsError(f"expected YAML, JSON or TOML in {path}, got something else ({words}): mend it") from None
    raise RecordsError(f"expected lines `name: value` in {path}, got {text[:40]!r}: mend it")


def flat(tree: Mapping[str, Any], above: str = "") -> Row:
    """The leaves of a tree of settings, by dotted name."""
    found = Row()
    for name, value in tree.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found
