"""The layout that docs/architecture.md draws: rooms small enough to know, files and functions short enough to read."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
PACKAGES = ("fipo_harness", "losses", "harness", "sweeps", "analysis", "benchmarks", "tests")
FILES = {package: sorted((ROOT / package).rglob("*.py")) for package in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_has_at_most_15_files_none_of_which_is_long(package: str) -> None:
    for room in {path.parent for path in FILES[package]}:
        assert len(list(room.glob("*.py"))) <= 15, room
    for path in FILES[package]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path


@pytest.mark.parametrize("package", PACKAGES)
def test_a_function_has_at_most_45_lines(package: str) -> None:
    for path in FILES[package]:
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
