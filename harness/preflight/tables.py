"""What is known of each library: version, defaults, common names of its keys, what its losses read, all its keys."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    version: str
    config: str  # the file that has the defaults
    trainer: str  # the file that has the losses
    second_update: str  # how a rollout gets more than one
    defaults: dict[str, Any]  # by key
    terms: dict[str, str]  # keys by common name
    losses: dict[str, dict[str, Any]]  # by the library's name: our type, its averaging, keys by our setting
    known: set[str]
    any: tuple[str, ...]  # beginnings of further keys
    on: set[str] = field(default_factory=set)  # truth values whose default is true; HfArgumentParser adds --no_NAME
    dead: dict[str, str] = field(default_factory=dict)  # keys that nothing reads, and why
    averagings: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # by the name that the other program of ms-swift has

    @property
    def own(self) -> set[str]:
        """Keys that one loss or another reads."""
        return {key for loss in self.losses.values() for key in loss["flags"].values()}

    def has(self, key: str) -> bool:
        return key in self.known or key in self.own or key in self.dead or key.startswith(self.any)


def toml(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text(encoding="utf-8"))


def tables() -> dict[str, Table]:
    known, verl, trl, swift = toml("known"), toml("verl"), toml("trl"), toml("swift")
    others: dict[str, dict[str, Any]] = swift.pop("megatron")
    shared = {name: trl["losses"][name] for name in ("grpo", "dapo", "bnpo", "dr_grpo", "cispo")}
    swift |= {"terms": trl["terms"] | swift["terms"], "losses": shared | swift["losses"], "clip": trl["clip"]}
    swift["names"] = {theirs: ours for ours, theirs in others["names"].items()}
    parts = ("defaults", "terms", "losses")
    megatron = swift | others | {part: swift[part] | others.get(part, {}) for part in parts}
    starts = {"verl": tuple(f"{section}." for section in known["verl"].pop("any").split())}
    keys = {"verl": {f"{room}.{name}".lstrip(".") for room, names in known["verl"].items() for name in names.split()}}
    on = {}
    for library in ("trl", "ms-swift", "megatron"):
        keys[library], on[library] = (
            {name for users, names in known[part].items() if library in users.split() for name in names.split()}
            for part in ("flags", "on")
        )
        starts[library] = tuple(known["flags"]["any"].split())
    found = {}
    for library, read in {"verl": verl, "trl": trl, "ms-swift": swift, "megatron": megatron}.items():
        clip = read.pop("clip")
        read["losses"] = {name: {"flags": clip | loss.get("also", {})} | loss for name, loss in read["losses"].items()}
        found[library] = Table(**read, known=keys[library], any=starts[library], on=on.get(library, set()))
    return found


TABLES = tables()
