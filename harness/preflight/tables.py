"""What is known of each library: version, defaults, common names of its keys, what its losses read, all its keys."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES = {"verl": "verl", "trl": "trl", "ms-swift": "swift"}


@dataclass(frozen=True)
class Table:
    version: str
    defaults: dict[str, Any]  # by key
    terms: dict[str, str]  # keys by common name
    losses: dict[str, dict[str, Any]]  # by the library's name: our type, its averaging, keys by our setting
    dead: dict[str, str]  # keys that nothing reads, and why
    averagings: dict[str, str]
    own: set[str]  # keys that one loss or another reads
    known: set[str]

    def has_room(self, key: str) -> bool:
        """Whether the keys beside this one are all known."""
        return key.rpartition(".")[0] in {other.rpartition(".")[0] for other in self.known}


def toml(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8"))


def table(name: str) -> Table:
    read = {"averagings": {}, "dead": {}} | toml(FILES[name])
    own = {key for loss in read["losses"].values() for key in loss.get("flags", {}).values()}
    return Table(**read, own=own, known={*toml("known")[name].split(), *own, *read["dead"]})


TABLES = {name: table(name) for name in FILES}
