from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from analysis.__main__ import main
from tests.analysis import folders
from tests.analysis.block_folders import write_block_study
from tests.analysis.records.test_claims import CLAIM


@pytest.fixture(scope="session")
def demo_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's five arms, smaller, with a run that failed and one that never started."""
    folder = tmp_path_factory.mktemp("study") / "demo"
    arms = tuple(replace(arm, seeds=7) if arm.name == "grpo" else arm for arm in folders.DEMO.arms)
    folders.write_study(folder, folders.smaller(replace(folders.DEMO, arms=arms, tokens=True, claims=CLAIM)))
    folders.write_json(
        folder / "runs/grpo-seed5/status.json",
        {"state": "failed", "reason": "loss is <nan>", "exit_code": 1, "steps_done": 3},
    )
    for path in sorted((folder / "runs/grpo-seed6").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "runs/grpo-seed6").rmdir()
    return folder


@pytest.fixture(scope="session")
def demo_report(demo_study: Path) -> Path:
    """The report of it, and what the command printed beside it."""
    with redirect_stdout(StringIO()) as printed:
        assert main(["report", str(demo_study)]) == 0
    (demo_study / "printed.txt").write_text(printed.getvalue())
    return demo_study / "report"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A fresh small study for a test that damages it."""
    return folders.write_small_study(tmp_path / "study")


@pytest.fixture(scope="session")
def block_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of several blocks, small and complete."""
    return write_block_study(tmp_path_factory.mktemp("blocks") / "study")
