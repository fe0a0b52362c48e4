"""The layout that docs/architecture.md draws: rooms small enough to know, functions short enough to read."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
ROOMS = [
    folder for name in ("losses", "harness", "tests/harness") for folder in (ROOT / name, *(ROOT / name).rglob("*/"))
]


@pytest.mark.parametrize("room", [room for room in ROOMS if room.name != "__pycache__"], ids=str)
def test_a_room_has_at_most_15_files(room: Path) -> None:
    assert len(list(room.glob("*.py"))) <= 15


@pytest.mark.parametrize("package", ["losses", "harness"])
def test_a_function_has_at_most_45_lines(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 45, f"{path}: {node.name}"


def test_the_page_draws_every_room_and_names_files_that_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    drawn = set(re.findall(r"([a-z]+)/", text.partition("## Walk 1")[0]))
    rooms = {path.name for path in (ROOT / "harness").iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= drawn
    for name in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text):
        assert any((base / name).is_file() for base in (ROOT, ROOT / "harness")), name
