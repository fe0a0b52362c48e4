"""The launches that the tests read."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def launches(tmp_path: Path) -> Path:
    """The launches in a folder that has no file of settings above it."""
    return Path(shutil.copytree(Path(__file__).parent / "launches", tmp_path / "launches"))
