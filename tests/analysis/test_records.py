import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis.errors import RecordsError
from analysis.records.records import read, read_runs, read_study
from analysis.records.run_files import read_status
from tests.analysis import folders


def test_tidy_tables_hold_every_finished_run(study: Path) -> None:
    records = read_study(study)
    assert [arm.name for arm in records.compared_arms] == ["dapo", "fipo"]
    assert len(records.metrics) == 2 * 5 * 2
    assert len(records.evals) == 2 * 5 * 2 * 4 * 2
    assert set(records.metrics["run"]) == set(records.environments["run"])


def test_runs_that_are_not_finished_do_not_enter(study: Path) -> None:
    status = {"state": "failed", "reason": "diverged", "exit_code": 1, "steps_done": 1}
    folders.write_json(study / "runs/fipo-seed1/status.json", status)
    (study / "runs/fipo-seed2/status.json").unlink()
    shutil.rmtree(study / "runs/fipo-seed3")
    (study / "runs/notes").mkdir()
    shutil.move(study / "runs/dapo-seed4", study / "superseded/dapo-seed4")
    records = read_study(study)
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
    metrics = read_study(study).metrics
    assert list(metrics.loc[metrics["run"] == "dapo-seed0", "step"]) == [0]


def test_a_torn_line_in_the_middle_is_an_error(study: Path) -> None:
    path = study / "runs/dapo-seed0/metrics.jsonl"
    path.write_text(path.read_text()[60:])
    with pytest.raises(RecordsError, match="line 1 of"):
        read_study(study)


@pytest.mark.parametrize("file", ["study.json", "runs/dapo-seed0/config.json"])
def test_an_unknown_schema_version_is_refused(study: Path, file: str) -> None:
    content = json.loads((study / file).read_text())
    folders.write_json(study / file, content | {"schema_version": 2})
    with pytest.raises(RecordsError, match=r"expected schema_version 1 .*, got 2: use the analysis"):
        read_study(study)


@pytest.mark.parametrize("file", ["metrics.jsonl", "environment.json", "config.json"])
def test_a_finished_run_must_be_complete(study: Path, file: str) -> None:
    (study / "runs/dapo-seed0" / file).unlink()
    with pytest.raises(RecordsError, match=file):
        read_study(study)


def test_evaluations_must_be_there_and_have_their_columns(study: Path) -> None:
    evals = study / "runs/dapo-seed0/evals"
    pd.DataFrame({"step": [0]}).to_parquet(evals / "step_000002.parquet")
    with pytest.raises(RecordsError, match=r"prompt_id.*step_000002|step_000002"):
        read_study(study)
    shutil.rmtree(evals)
    with pytest.raises(RecordsError, match="evaluations"):
        read_study(study)


def test_loose_runs_are_read_by_their_names_and_configs(study: Path) -> None:
    shutil.move(study / "runs/dapo-seed0", study / "runs/mine")
    records = read([study / "runs/mine", study / "runs/fipo-seed3"])
    assert {(arm.name, arm.loss_type, arm.seeds) for arm in records.arms} == {
        ("mine", "dapo", (0,)),
        ("fipo", "fipo", (3,)),
    }
    with pytest.raises(RecordsError, match="same name"):
        read_runs([study / "runs/mine", study / "runs/mine"])


def test_without_a_finished_run_there_is_nothing_to_read(study: Path) -> None:
    shutil.rmtree(study / "runs")
    with pytest.raises(RecordsError, match="at least one finished run"):
        read_study(study)


@pytest.mark.parametrize(
    ("recorded", "state"),
    [
        ({"reason_code": "diverged"}, "diverged"),
        ({"reason_code": "gave_up"}, "diverged"),
        ({"reason_code": "failed", "reason": "it expected finite numbers"}, "failed"),
        ({"reason": "HarnessError: step 3: expected finite numbers, got nan"}, "diverged"),  # folders without codes
        ({"reason": "GaveUp: gave up after 5 steps: none had a group"}, "diverged"),
        ({"reason": "HarnessError: step 3: expected 4 groups"}, "failed"),
    ],
)
def test_a_run_that_ended_itself_counts(recorded: dict[str, str], state: str, tmp_path: Path) -> None:
    status = {"state": "failed", "exit_code": 1, "steps_done": 1, **recorded}
    (tmp_path / "status.json").write_text(json.dumps(status), encoding="utf-8")
    assert read_status(tmp_path)["state"] == state
