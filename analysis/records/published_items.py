"""The tables and figures of the papers, and the commands that make ours."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("published_items.toml")


@dataclass(frozen=True)
class Item:
    """A table or figure: what it shows, the commands that make ours, in order, and what a reader must know of them."""

    name: str
    shows: str
    commands: tuple[str, ...]
    note: str


@cache
def items() -> tuple[Item, ...]:
    """All of them, in the order of the papers."""
    rows = tomllib.loads(FILE.read_text(encoding="utf-8"))["item"]
    return tuple(Item(row["name"], row["shows"], tuple(row.get("commands", ())), row.get("note", "")) for row in rows)
