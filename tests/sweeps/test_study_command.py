"""The command `study`, from its design to its report."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.harness.command_line import Outcome
from tests.sweeps.search.searching import preset, started

pytestmark = pytest.mark.train

DESIGN = """
title = "A small study"
family = "study"
preset = "{preset}"
claims = "{claims}"
warm_starts = 1

[blocks.one]
question = "What of wide weights?"
arms = ["fipo_wide"]
seeds = 1

[blocks.two]
question = "And over decay rates?"
arms = ["fipo_wide"]
seeds = 1
vary = {{ fipo_decay_rate = [8.0, 32.0] }}
"""
CLAIMS = """
title = "for a test"
source = "a test"
[[claim]]
id = "rises"
text = "Accuracy rises with the decay rate"
source = "a test"
role = "primary"
kind = "superior"
arm = "two/fipo_wide"
parameter = "fipo_decay_rate"
from = 8.0
to = 32.0
metric = "final_accuracy"
margin = 0.01
"""


class Studied(NamedTuple):
    """A study that ran to its end, and how to start it again."""

    study: Path
    design: Path
    first: Outcome


def arguments(design: Path, study: Path, *more: str) -> list[str]:
    return ["study", "--design", str(design), "--study", str(study), "--slots", "2", *more]


@pytest.fixture(scope="module")
def studied(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Studied:
    folder = tmp_path_factory.mktemp("study")
    (folder / "claims.toml").write_text(CLAIMS)
    design = folder / "small.toml"
    design.write_text(DESIGN.format(preset=preset(folder, model_folder), claims=folder / "claims.toml"))
    return Studied(folder / "study", design, started(arguments(design, folder / "study")))


def test_every_cell_runs_once_after_the_questions_are_printed(studied: Studied) -> None:
    assert studied.first.exit_code == 0, studied.first.errors
    runs = {path.parent.name for path in studied.study.glob("runs/*/status.json")}
    assert runs == {"one.fipo_wide-seed0", "two.fipo_wide.8.0-seed0"}
    printed = studied.first.printed
    asked = next(place for place, line in enumerate(printed) if line.startswith("one: What of wide weights? fipo_wide"))
    assert asked < next(place for place, line in enumerate(printed) if ": accuracy " in line)


def test_the_design_and_the_claims_are_fixed_in_the_study(studied: Studied) -> None:
    content = json.loads((studied.study / "study.json").read_text())
    assert content["design"]["blocks"]["one"]["varied"] == []
    assert content["design"]["blocks"]["two"]["varied"] == ["fipo_decay_rate"]
    assert content["design"]["blocks"]["two"]["cells"] == [
        {"arm": "fipo_wide", "level": 8.0, "cell": "two.fipo_wide.8.0"},
        {"arm": "fipo_wide", "level": 32.0, "cell": "one.fipo_wide"},
    ]
    assert (studied.study / "claims.toml").read_text() == CLAIMS
    assert content["claims"]["fixed_at"] is not None


def records(run: Path) -> list[dict[str, object]]:
    """A run's metrics without clocks."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]


def test_the_same_command_again_runs_what_is_missing_alone(studied: Studied) -> None:
    gone = studied.study / "runs" / "one.fipo_wide-seed0"
    gone.rename(studied.study / "elsewhere")
    before = {path: path.stat().st_mtime_ns for path in studied.study.glob("runs/*/status.json")}
    assert started(arguments(studied.design, studied.study)).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert records(gone) == records(studied.study / "elsewhere")


def test_other_designs_flags_and_seeds_are_refused_in_the_same_folder(studied: Studied, tmp_path: Path) -> None:
    other = tmp_path / "small.toml"
    other.write_text(studied.design.read_text().replace("8.0", "16.0"))
    for asked, said in (
        (arguments(other, studied.study), "begun with another design"),
        (arguments(studied.design, studied.study, "--threads", "2"), "begun with other settings on the command line"),
        (arguments(studied.design, studied.study, "--seeds", "1"), "begun with another --seeds"),
        (arguments(studied.design, studied.study, "--preset", "demo"), "begun with --preset "),
    ):
        refused = started([*asked, "--claims", "none"])
        assert (refused.exit_code, len(refused.errors)) == (2, 1)
        assert said in refused.errors[0]


def test_wrong_use_is_one_line_and_starts_nothing(studied: Studied, tmp_path: Path) -> None:
    run = studied.study / "runs" / "one.fipo_wide-seed0"
    (tmp_path / "mine.toml").write_text("[[claim]]\nid = 'a'\n")
    for more, said in (
        (["--seeds", "0"], "--seeds: expected 1 or more, got 0"),
        (["--claims", str(tmp_path / "mine.toml")], "with text: Field required, got none"),
        (["--slots", "-1"], "--slots: expected 0"),
        (["--fipo_decay_rate", "4"], "--fipo_decay_rate is set by the study itself"),
        (["--claims", str(tmp_path / "none.toml")], "--claims: "),
        (["--study", str(run)], "which holds a run"),
    ):
        refused = started(arguments(studied.design, tmp_path / "new", *more))
        assert (refused.exit_code, len(refused.errors)) == (2, 1), more
        assert said in refused.errors[0]
    assert not (tmp_path / "new").exists()
    assert not (run / ".lock").exists()


def test_another_preset_takes_the_designs_place_and_is_recorded(studied: Studied, tmp_path: Path) -> None:
    preset = studied.design.parent / "other.toml"
    preset.write_text((studied.design.parent / "preset.toml").read_text() + "\nweight_decay = 0.5\n")
    asked = arguments(studied.design, tmp_path / "study", "--preset", str(preset), "--claims", "none")
    assert started(asked).exit_code == 0
    assert json.loads((tmp_path / "study" / "study.json").read_text())["preset"] == str(preset)
    config = json.loads((tmp_path / "study/runs/one.fipo_wide-seed0/config.json").read_text())["config"]
    assert config["optimizer"]["weight_decay"] == 0.5
    assert "begun with --preset" in started(arguments(studied.design, tmp_path / "study")).errors[0]


def test_a_folder_of_an_older_version_goes_on_and_gets_what_it_lacks(studied: Studied, tmp_path: Path) -> None:
    old = tmp_path / "study"
    shutil.copytree(studied.study, old)
    content = json.loads((old / "study.json").read_text())
    del content["roles"]
    for block in content["design"]["blocks"].values():
        block["varied"] = next(iter(block["varied"]), None)
        del block["baseline"]
    (old / "study.json").write_text(json.dumps(content))
    assert started(arguments(studied.design, old)).exit_code == 0
    now = json.loads((old / "study.json").read_text())
    assert now["roles"]["fipo_wide"]["label"] == "FIPO, wide weights"
    assert now["design"]["blocks"]["two"]["varied"] == ["fipo_decay_rate"]


def test_a_comparison_does_not_enter_the_study(studied: Studied) -> None:
    refused = started(["compare", "--losses", "dapo", "--seeds", "1", "--study", str(studied.study)])
    assert (refused.exit_code, len(refused.errors)) == (2, 1)
    assert "it was made by `sweeps study`" in refused.errors[0]
