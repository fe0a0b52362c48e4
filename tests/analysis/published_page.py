"""The table of docs/published.md, which `python -m tests.analysis.published_page` writes."""

from pathlib import Path

from analysis.records.published import Item, items

PAGE = Path(__file__).parents[2] / "docs" / "published.md"
HEAD = "| published | what it shows | what makes ours |\n|---|---|---|\n"


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
