"""A source's rows as they stand there, each with its place, before anything of them is understood."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from analysis.errors import RecordsError

Row = dict[str, Any]


@dataclass
class Source:
    """What was read.

    kind: a table of formats.toml. rows: each with its place in words. settings: flat, by dotted name. files: all that
    was read. notes: what of it was not taken as it stands.
    """

    kind: str
    rows: list[tuple[str, Row]]
    files: list[Path]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What an error calls it."""
        return str(self.files[0]) if self.files else f"a source of the format {self.kind}"


def read_text(path: Path) -> str:
    """The text of a file, whatever bytes stand between."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise RecordsError(f"expected to read {path}, got: {error.strerror}: mend that") from None


def json_lines(path: Path, notes: list[str]) -> Iterator[tuple[str, Row]]:
    """The objects of a file, a line each; a torn last line, the trace of a write that was cut off, is left out."""
    text = read_text(path)
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip("\0 \r"):
            continue
        place = f"line {number} of {path}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if number == len(lines) > 1:
                notes.append(f"{path.name}: the last line is torn and was left out")
                continue
            raise RecordsError(
                f"expected a JSON object in {place}, got {line[:40]!r}: mend or remove the line"
            ) from None
        if not isinstance(row, dict):
            raise RecordsError(f"expected a JSON object in {place}, got {line[:40]!r}: mend or remove the line")
        yield place, row


def csv_rows(path: Path) -> list[tuple[str, Row]]:
    """The lines of a table with a head, cells as text; its delimiter is a comma, a semicolon or a tab."""
    text = read_text(path)
    head, found = text.partition("\n")[0], list[tuple[str, Row]]()
    reader = csv.reader(StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    names = [name.strip() for name in next(reader, [])]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RecordsError(f"expected each column once in {path}, got {twice[0]!r} twice: rename one")
    for cells in reader:
        place = f"line {reader.line_num} of {path}"
        if any(map(str.strip, cells)) and len(cells) != len(names):
            raise RecordsError(f"expected {len(names)} cells in {place}, got {len(cells)}: mend the line")
        if any(map(str.strip, cells)):
            found.append((place, dict(zip(names, map(str.strip, cells), strict=True))))
    return found


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The leaves of a tree of settings, by dotted name."""
    found = dict[str, Any]()
    for name, value in tree.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found
