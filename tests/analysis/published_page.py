"""The table of docs/published.md, which `python -m tests.analysis.published_page` writes."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ITEMS = Path(__file__).with_name("published_items.toml")
PAGE = Path(__file__).parents[2] / "docs" / "published.md"
HEAD = "| published | what it shows | what makes ours |\n|---|---|---|\n"


@dataclass(frozen=True)
class Item:
    """A table or figure: what it shows, the commands that make ours, in order, and what a reader must know of them."""

    name: str
    shows: str
    commands: tuple[str, ...]
    note: str


@cache
def items() -> tuple[Item, ...]:
    """The tables and figures of the papers, in their order."""
    rows = tomllib.loads(ITEMS.read_text(encoding="utf-8"))["item"]
    return tuple(Item(row["name"], row["shows"], tuple(row.get("commands", ())), row.get("note", "")) for row in rows)


def table() -> str:
    """A row per table and figure."""
    return HEAD + "".join(f"| {item.name} | {item.shows} | {_made_by(item)} |\n" for item in items())


def _made_by(item: Item) -> str:
    commands = "<br>".join(f"`{command}`" for command in item.commands)
    return "<br>".join(filter(None, [commands, item.note]))


def with_table(page: str) -> str:
    """The page with its table made anew; what stands before and behind it stays."""
    before, _, rest = page.partition(HEAD)
    behind = rest.split("\n\n", 1)[1:]
    return before + table() + "".join(f"\n{text}" for text in behind)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
