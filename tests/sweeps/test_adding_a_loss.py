"""docs/adding-a-loss.md, carried out on a copy of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config.resolve import resolve
from tests.harness.tiny import small_settings

pytestmark = pytest.mark.train

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-loss.md").read_text(encoding="utf-8")
PACKAGES = ("losses", "harness", "sweeps", "analysis")


def block(kind: str) -> str:
    """The page's first block of code of this kind."""
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with the page carried out."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "losses" / "weighted.py").write_text(block("python"))
    (folder / "name.diff").write_text(block("diff"))
    subprocess.run(["git", "apply", "name.diff"], cwd=folder, check=True)
    return folder


def run(checkout: Path, *words: str) -> str:
    """What the command printed; it must end well."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=checkout, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def preset(checkout: Path, model_folder: str) -> str:
    """Settings of a run of one step."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in small_settings(model_folder, steps=1).items()]
    (checkout / "small.toml").write_text("\n".join(lines))
    return "small.toml"


@pytest.fixture(scope="module")
def study(checkout: Path, preset: str) -> Path:
    """A comparison with it, and its report."""
    arms = ["--losses", "dapo,weighted", "--seeds", "1", "--slots", "2", "--claims", "none"]
    run(checkout, "sweeps", "compare", *arms, "--preset", preset, "--study", "study", "--weighted_positive", "0.5")
    run(checkout, "analysis", "report", "study")
    return checkout / "study"


def test_it_trains_and_its_diagnostics_are_metrics(study: Path) -> None:
    (line,) = (study / "runs/weighted-seed0/metrics.jsonl").read_text().splitlines()
    metrics = json.loads(line)
    assert 0.5 < metrics["loss/weight"] < 1
    assert metrics["noise/ratio"] == 0
    assert "loss/clip_fraction_low" not in metrics


def test_its_own_field_is_a_flag(study: Path) -> None:
    config = json.loads((study / "runs/weighted-seed0/config.json").read_text())["config"]
    assert config["loss"]["weighted_positive"] == 0.5


def test_it_is_daops_scaffold_with_another_loss(study: Path) -> None:
    described = json.loads((study / "study.json").read_text())
    differing = {item["field"]: item["values"] for item in described["differences"]}
    assert set(differing) == {"loss_type", "weighted_positive"}
    assert differing["weighted_positive"] == {"dapo": None, "weighted": 0.5}


def test_it_is_in_the_report(study: Path) -> None:
    page = (study / "report" / "report.html").read_text()
    assert "weighted" in page
    assert any("weighted" in path.read_text() for path in (study / "report/figures").glob("learning_curves*.csv"))


# several commands in one process, since each import of torch takes seconds
TOLD = """
import contextlib
from harness.__main__ import main
from sweeps.search.spaces import load_space
main(["show", "--loss_type", "weighted"])
print("space:", *load_space("default", "weighted").searched)
with contextlib.suppress(SystemExit):
    main(["train", "--help"])
"""


def test_it_is_told_of_in_show_help_and_its_space(checkout: Path) -> None:
    (checkout / "sweeps/spaces/weighted.toml").unlink(missing_ok=True)
    (checkout / "told.py").write_text(TOLD)
    told = re.sub(r"\s+", " ", run(checkout, "told"))
    assert "w = positive if A > 0 else 1" in told
    assert "--weighted_positive 0.1" in told
    assert "Weight of advantages above 0. (default: 0.1)" in told
    assert "space: lr " in told  # what all losses share, where it has no file of its own


@pytest.mark.skipif(not os.environ.get("THOROUGH"), reason="a search takes 20 s: THOROUGH=1, as in make test-faults")
def test_it_is_searched_over_the_space_of_the_page(checkout: Path, preset: str) -> None:
    (checkout / "sweeps/spaces/weighted.toml").write_text(block("toml"))
    few = ["--trials", "1", "--seeds", "1", "--report_seeds", "0", "--tracking_uri", "none", "--sampler", "random"]
    run(checkout, "sweeps", "search", "--losses", "weighted", *few, "--preset", preset, "--study", "search")
    found = re.search(r'"weighted_positive": ([0-9.]+)', (checkout / "search/best/weighted.json").read_text())
    assert found is not None
    assert 0.02 <= float(found[1]) <= 1.0


def test_dr_grpo_is_the_switches_that_the_page_names() -> None:
    preset, flags = resolve({}, "recipe/dr-grpo"), {"averaging": "constant", "advantage_scale": "none"}
    assert preset.loss == resolve({"loss_type": "grpo", **flags}).loss
