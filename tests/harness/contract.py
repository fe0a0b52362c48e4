"""What docs/run_folder.md promises, read from the page itself."""

import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "run_folder.md"


@cache
def _rows() -> dict[str, str]:
    """First cell: second cell, of every table."""
    cells = re.findall(r"^\| (`.*?) \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(cells)


def expanded(name: str) -> list[str]:
    """`a_{b,c}` as a_b and a_c."""
    match = re.fullmatch(r"(.*)\{(.*)\}(.*)", name)
    return [f"{match[1]}{part}{match[3]}" for part in match[2].split(",")] if match else [name]


def metric_keys(*, fipo: bool, beta: bool) -> set[str]:
    """The keys of a line of metrics.jsonl."""
    keys: set[str] = set()
    for names, meaning in _rows().items():
        of_others = re.search(r"(\w+) only: ", meaning)
        if (of_others and not (fipo and of_others[1] == "FIPO")) or ("where beta > 0" in meaning and not beta):
            continue
        quoted = re.findall(r"`([^`]*)`", names)
        if re.fullmatch(r"(rollout|sampler|loss|weights|noise|optimizer|ledger|time)/[^.]*", quoted[0]):
            keys |= {key for name in quoted for key in expanded(name)}
    return keys | {"step"}


def columns(file: str) -> list[str]:
    """The columns of a parquet file, or the keys of a JSON one, in the page's order."""
    meaning = _rows()[f"`{file}`"]
    lists = re.findall(r"`([^`]*)`", meaning)
    if file.endswith(".parquet"):
        names = ", ".join(part for part in lists if part.startswith("step,") or part.startswith("future_kl"))
        return names.split(", ")
    if lists[0].startswith("{"):
        return re.findall(r'"(\w+)"(?=[,:}])', lists[0])
    return lists
