"""What is known of each library: version, defaults, the common names of its keys, what its losses read, all its keys."""

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
    known: frozenset[str]
    averagings: dict[str, str]

    @property
    def own(self) -> set[str]:
        """Keys that one loss or another reads."""
        return {key for loss in self.losses.values() for key in loss.get("flags", {}).values()}

    def has_room(self, key: str) -> bool:
        """Whether keys beside this one are all listed."""
        return key.rpartition(".")[0] in {other.rpartition(".")[0] for other in self.known}


def toml(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8"))


KNOWN = toml("known")
TABLES = {
    name: Table(known=frozenset(KNOWN[name].split()), **({"averagings": {}} | toml(file)))
    for name, file in FILES.items()
}
