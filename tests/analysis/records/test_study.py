import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import RecordsError
from analysis.records.run_files import read_status
from analysis.records.study import read
from tests.analysis import folders


def test_runs_that_are_not_finished_do_not_enter(study: Path) -> None:
    status = {"state": "failed", "reason": "diverged", "exit_code": 1, "steps_done": 1}
    folders.write_json(study / "runs/fipo-seed1/status.json", status)
    (study / "runs/fipo-seed2/status.json").unlink()
    shutil.rmtree(study / "runs/fipo-seed3")
    (study / "runs/notes").mkdir()
    shutil.move(study / "runs/dapo-seed4", study / "superseded/dapo-seed4")
    records = read([study])
    states = records.runs.set_index("run")["state"]
    assert states["fipo-seed1"] == "failed"
    assert states["fipo-seed2"] == "unknown"
    assert states["fipo-seed3"] == states["dapo-seed4"] == "not started"
    assert states["notes"] == "not planned"
    assert set(records.metrics["run"]) == {f"dapo-seed{k}" for k in range(4)} | {"fipo-seed0", "fipo-seed4"}
    assert set(records.evals["run"]) == set(records.metrics["run"])


def test_a_torn_last_line_is_left_out(study: Path) -> None:
    path = study / "runs/dapo-seed0/metrics.jsonl"
    path.write_text(path.read_text()[:-40])
    metrics = read([study]).metrics
    assert list(metrics.loc[metrics["run"] == "dapo-seed0", "step"]) == [0]


def test_an_unknown_schema_version_is_refused(study: Path) -> None:
    content = json.loads((study / "study.json").read_text())
    folders.write_json(study / "study.json", content | {"schema_version": 2})
    with pytest.raises(RecordsError, match=r"expected schema_version 1 .*, got 2: use the analysis"):
        read([study])


def test_runs_of_a_study_keep_its_arms_and_others_are_named_by_their_settings(study: Path) -> None:
    shutil.move(study / "runs/dapo-seed1", study / "runs/mine")
    records = read([study / "runs/mine", study / "runs/fipo-seed3"])
    assert [(arm.name, arm.seeds) for arm in records.arms] == [("dapo", (1,)), ("fipo", (3,))]
    with pytest.raises(RecordsError, match="same name"):
        read([study / "runs/mine", study / "runs/mine"])


def test_plain_runs_of_the_same_settings_are_seeds_of_one_arm(study: Path) -> None:
    plain = study.parent / "plain"
    made = {"a": ("fipo", 0, {}), "b": ("fipo", 1, {}), "c": ("fipo", 0, {"lr": 0.001}), "d": ("dapo", 0, {"delta": 9})}
    made["e"] = made["a"]  # the same once more
    for name, (loss, seed, changes) in made.items():
        shutil.copytree(study / "runs" / f"{loss}-seed0", plain / name)
        recorded = json.loads((plain / name / "config.json").read_text())
        recorded["config"]["run"]["seed"] = seed
        recorded["config"]["optimizer"] = {"lr": changes.get("lr", 0.1)}
        recorded["config"]["loss"]["delta"] = changes.get("delta")  # of one loss only, so it needs no name
        folders.write_json(plain / name / "config.json", recorded)
    records = read([plain / name for name in made])
    assert [(arm.name, arm.loss_type, arm.seeds, records.label(arm.name)) for arm in records.arms] == [
        ("fipo lr=0.1", "fipo", (0, 1), "FIPO lr=0.1"),
        ("fipo lr=0.001", "fipo", (0,), "FIPO lr=0.001"),
        ("dapo lr=0.1", "dapo", (0,), "DAPO lr=0.1"),
        ("fipo lr=0.1 #2", "fipo", (0,), "FIPO lr=0.1 #2"),
    ]


@pytest.mark.parametrize(
    ("recorded", "state"),
    [
        ({"reason_code": "diverged"}, "diverged"),
        ({"reason_code": "gave_up"}, "diverged"),
        ({"reason_code": "failed", "reason": "it expected finite numbers"}, "failed"),
    ],
)
def test_a_run_that_ended_itself_counts(recorded: dict[str, str], state: str, tmp_path: Path) -> None:
    status = {"state": "failed", "exit_code": 1, "steps_done": 1, **recorded}
    (tmp_path / "status.json").write_text(json.dumps(status), encoding="utf-8")
    assert read_status(tmp_path)["state"] == state


# ---- roles and blocks ----

ROLES = {
    "dapo": {"like": None, "label": "DAPO", "role": None, "against": None, "planted": False},
    "fipo": {"like": None, "label": "FIPO", "role": None, "against": None, "planted": False},
    "odd": {"like": "dapo", "label": "an odd one", "role": "positive", "against": "dapo", "planted": True},
}


def with_roles(folder: Path, roles: dict[str, Any]) -> Path:
    folders.write_json(folder / "study.json", json.loads((folder / "study.json").read_text()) | {"roles": roles})
    return folder


def odd_study(folder: Path) -> Path:
    """Two losses and a control whose name and config say nothing of it."""
    arms = (folders.ArmTruth("fipo", "fipo"), folders.ArmTruth("dapo"), folders.ArmTruth("odd"))
    return folders.write_study(folder / "odd", folders.smaller(folders.StudyTruth(arms), steps=2, prompts=4))


def test_what_is_planted_and_how_arms_are_called_is_what_study_json_says(tmp_path: Path) -> None:
    folder = odd_study(tmp_path)
    assert [arm.name for arm in read([folder]).compared_arms] == ["fipo", "dapo", "odd"]
    study = read([with_roles(folder, ROLES)])
    assert [arm.name for arm in study.compared_arms] == ["fipo", "dapo"]
    assert [study.label(name) for name in ("odd", "fipo", "unknown")] == ["an odd one", "FIPO", "unknown"]


def test_a_comparison_is_a_study_of_one_block_whose_baseline_most_controls_name(tmp_path: Path) -> None:
    (block,) = read([with_roles(odd_study(tmp_path), ROLES)]).blocks.values()
    assert (block.name, block.arms, block.baseline) == ("comparison", ("fipo", "dapo", "odd"), "dapo")
    assert (block.varied, block.levels, block.seeds) == ((), (None,), 5)


def test_a_block_is_a_study_with_the_familys_names_and_its_own_seeds(block_study: Path) -> None:
    study = read([block_study])
    negative = study.block("negative")
    assert [arm.name for arm in negative.arms] == ["dapo", "random_reward", "unit_weights"]
    assert set(negative.runs["seed"]) == {0, 1, 2}
    assert set(negative.metrics["arm"]) == set(negative.evals["arm"]) == {arm.name for arm in negative.arms}
    assert len(negative.folders) == len(negative.configs) == 9
    assert negative.block("negative").runs.equals(negative.runs)


def test_two_varied_settings_have_levels_of_two_values(block_study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    shutil.copytree(block_study, folder)
    content = json.loads((folder / "study.json").read_text())
    block = content["design"]["blocks"]["rates"]
    block["varied"] = ["lr", "epochs"]
    for cell in block["cells"]:
        cell["level"] = [cell["level"], 2]
    folders.write_json(folder / "study.json", content)
    found = read([folder]).blocks["rates"]
    assert (found.varied, found.levels) == (("lr", "epochs"), ((1e-4, 2), (2e-4, 2), (4e-4, 2)))


def test_runs_of_one_warm_start_that_cannot_be_compared_are_refused(block_study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(block_study, folder)
    for path in folder.glob("runs/*/environment.json"):  # another warm start may have another model
        if int(path.parent.name.rpartition("seed")[2]) % 3 == 1:
            folders.write_json(path, json.loads(path.read_text()) | {"model_sha256": "c" * 64})
    assert len(read([folder]).folders) == len(list(folder.glob("runs/*")))
    path = folder / "runs/preset.fipo-seed3/environment.json"
    folders.write_json(path, json.loads(path.read_text()) | {"model_sha256": "d" * 64})
    with pytest.raises(RecordsError, match="other initial weights"):
        read([folder])


def test_a_design_without_cells_is_refused(block_study: Path, tmp_path: Path) -> None:
    content = json.loads((block_study / "study.json").read_text())
    del content["design"]["blocks"]["preset"]["cells"]
    folders.write_json(tmp_path / "study.json", content)
    with pytest.raises(RecordsError, match="expected blocks with cells"):
        read([tmp_path])
