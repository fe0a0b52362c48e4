"""Records of `make bench` read back: the machine, and each part's rows."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.table import Row
from harness.errors import UsageError

FIELDS = tuple(field.name for field in dataclasses.fields(Row))


@dataclass(frozen=True)
class Record:
    """What `make bench` found, and on what."""

    name: str  # of its file
    machine: Mapping[str, Any]
    parts: Mapping[str, Sequence[Row]]

    def rows(self, *parts: str) -> list[Row]:
        """The rows of these parts in their order."""
        return [row for part in parts for row in self.parts.get(part, ())]

    @property
    def missed(self) -> list[Row]:
        """Every row whose target is not met."""
        return [row for row in self.rows(*self.parts) if row.verdict == "NOT MET"]

    def matching(self, part: str, pattern: str) -> list[tuple[re.Match[str], Row]]:
        """The part's rows whose whole figure has this pattern, with what its groups caught."""
        found = [(re.fullmatch(pattern, row.figure), row) for row in self.rows(part)]
        return [(match, row) for match, row in found if match]


def read_record(path: Path) -> Record:
    """The record in this file. Raises UsageError where it is none that tells parts."""
    if not path.is_file():
        raise UsageError(f"expected a record of make bench, found no file {path}")
    content = json.loads(path.read_text(encoding="utf-8"))
    if not all("part" in line for line in content["rows"]):
        raise UsageError(f"expected rows with their parts, got rows without in {path}: run make bench again")
    parts: dict[str, list[Row]] = {}
    for line in content["rows"]:
        parts.setdefault(line["part"], []).append(Row(**{name: line[name] for name in FIELDS}))
    return Record(path.name, content["machine"], parts)


def newest_record() -> Path:
    """The file of the last measurement by `make bench`. Raises UsageError where there is none."""
    found = {path: json.loads(path.read_text(encoding="utf-8")) for path in table.RESULTS.glob("speed-*.json")}
    if not found:
        raise UsageError("expected a record benchmarks/results/speed-*.json, found none: run make bench")
    return max(found, key=lambda path: (found[path]["machine"]["measured_at"], path.name))
