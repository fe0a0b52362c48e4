import json
import math
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import HarnessError
from sweeps.tracking.mirror import follow
from sweeps.tracking.mirror_run import metric_name, shown
from tests.sweeps.commands import MLFLOW_WARNINGS, empty_database, mirror, run
from tests.sweeps.mirrored_study import KEYS, line, write, write_comparison, write_run, write_search

pytestmark = pytest.mark.filterwarnings(*MLFLOW_WARNINGS)


class Copy(NamedTuple):
    """A run as MLflow has it."""

    status: str
    parent: str | None
    params: dict[str, str]
    tags: dict[str, str]
    points: dict[str, list[tuple[int, float]]]
    files: list[str]


def copies(folder: Path, experiment: str) -> dict[str, Copy]:
    """What MLflow has of a study, by path; no path twice."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id])
    paths = {each.info.run_id: each.data.tags["fipo.path"] for each in runs}
    assert len(set(paths.values())) == len(runs)
    return {paths[each.info.run_id]: copy_of(client, each, paths) for each in runs}


def copy_of(client: Any, each: Any, paths: dict[str, str]) -> Copy:
    histories = {key: client.get_metric_history(each.info.run_id, key) for key in each.data.metrics}
    tags = {key: value for key, value in each.data.tags.items() if key.startswith("fipo.")}
    return Copy(
        each.info.status,
        paths.get(each.data.tags.get("mlflow.parentRunId", "")),
        dict(each.data.params),
        tags,
        {key: [(point.step, point.value) for point in history] for key, history in histories.items()},
        sorted(file.path for file in client.list_artifacts(each.info.run_id)),
    )


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirrored comparison."""
    study = tmp_path_factory.mktemp("runs") / "demo"
    write_comparison(study, ["dapo", "fipo"], seeds=2, steps=3)
    assert mirror(study) == 0
    return study


def test_a_comparison_is_an_experiment_of_study_arms_and_seeds(comparison: Path) -> None:
    found = copies(comparison.parent, "demo")
    assert {path: (copy.parent, copy.status) for path, copy in found.items()} == {
        ".": (None, "FINISHED"),
        "dapo": (".", "FINISHED"),
        "fipo": (".", "FINISHED"),
        **{f"runs/{arm}-seed{seed}": (arm, "FINISHED") for arm in ("dapo", "fipo") for seed in (0, 1)},
    }
    assert found["fipo"].params == {"loss_type": "fipo", "control": "none", "lr": "0.0001"}
    assert found["."].params["family"] == "controlled"
    assert found["."].files == ["figures", "study.json"]


def test_a_seed_has_the_settings_and_the_numbers_of_its_folder(comparison: Path) -> None:
    copy = copies(comparison.parent, "demo")["runs/fipo-seed1"]
    recorded = json.loads((comparison / "runs/fipo-seed1/config.json").read_text())
    settings = {name: value for section in recorded["config"].values() for name, value in section.items()}
    assert copy.params == {name: shown(value) for name, value in settings.items()}
    assert copy.tags["fipo.config_sha256"] == recorded["sha256"]
    assert copy.files == ["config.json"]
    for key in (*KEYS, "rollout/accuracy"):
        assert copy.points[key] == [(step, line(step)[key]) for step in range(3)]
    assert copy.points["eval/accuracy"] == [(0, 0.5), (2, 0.25)]


def test_names_are_made_acceptable_and_what_is_not_finite_is_left_out(comparison: Path) -> None:
    points = copies(comparison.parent, "demo")["runs/dapo-seed0"].points
    assert points["rollout/avg_at_32"] == [(step, step / 50) for step in range(3)]
    assert "loss/future_kl" not in points
    assert [step for step, _ in points["loss/kl_to_old"]] == [0, 2]
    assert [step for step, _ in points["optimizer/grad_norm"]] == [0, 2]
    assert math.isfinite(sum(value for history in points.values() for _, value in history))
    assert metric_name("pass@8[x]") == "pass_at_8_x_"


def test_mirrored_twice_or_killed_between_is_mirrored_once(tmp_path: Path) -> None:
    study, whole = tmp_path / "grown" / "demo", tmp_path / "whole" / "demo"
    write_comparison(study, ["dapo"], seeds=1, steps=1)
    write_run(study / "runs" / "dapo-seed0", "dapo", 2, state="running")
    assert mirror(study) == 0
    assert copies(study.parent, "demo")["runs/dapo-seed0"].status == "RUNNING"
    forget_marks(study.parent)  # as if it was killed after the points and before the mark
    for folder in (study, whole):
        write_comparison(folder, ["dapo", "fipo"], seeds=2, steps=4)
        assert mirror(folder) == 0
    assert mirror(study) == 0
    assert copies(study.parent, "demo") == copies(whole.parent, "demo")


def forget_marks(folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    for each in client.search_runs([client.get_experiment_by_name("demo").experiment_id]):
        if "fipo.mirrored" in each.data.tags:
            client.delete_tag(each.info.run_id, "fipo.mirrored")


def test_a_run_that_was_started_again_or_is_gone_replaces_what_was_mirrored(tmp_path: Path) -> None:
    study = tmp_path / "demo"
    write_comparison(study, ["dapo"], seeds=2, steps=3)
    assert mirror(study) == 0
    again = study / "runs" / "dapo-seed0"
    (again / "metrics.jsonl").write_text('{"step": 0, "rollout/accuracy": 0.75}\n')
    (study / "superseded").mkdir()
    (study / "runs" / "dapo-seed1").rename(study / "superseded" / "dapo-seed1-1")
    assert mirror(study) == 0
    found = copies(tmp_path, "demo")
    assert found["runs/dapo-seed0"].points["rollout/accuracy"] == [(0, 0.75)]
    assert KEYS[0] not in found["runs/dapo-seed0"].points
    assert found.keys() == {".", "dapo", "runs/dapo-seed0"}
    assert found["runs/dapo-seed0"].parent == "dapo"


TRIALS: list[dict[str, Any]] = [
    {"value": 0.3},
    {"state": "pruned", "reason": "below the median", "value": None, "feasible": False},
    {"value": 0.2},
    {"state": "infeasible", "reason": "out of memory", "value": None, "feasible": False},
    {"value": 0.4},
    {"state": "running", "value": None, "feasible": None, "ended": None},
    {"state": "waiting", "value": None, "feasible": None, "ended": None},
]


def test_a_search_is_an_experiment_of_study_trials_and_seeds(tmp_path: Path) -> None:
    study = tmp_path / "somewhere"
    write_search(study, TRIALS, seeds=2, steps=2)
    write_run(study / "runs" / "fipo-trial0007-seed0", "fipo", 1, state="running")  # not in the table yet
    write_comparison(study / "winners", ["fipo"], seeds=1, steps=1)
    assert mirror(study) == 0
    found = copies(tmp_path, "fipo-search")
    statuses = [found[f"fipo-trial{number:04d}"].status for number in range(8)]
    ended = ["FINISHED", "KILLED", "FINISHED", "FAILED", "FINISHED"]
    assert statuses == [*ended, "RUNNING", "SCHEDULED", "RUNNING"]
    trial = found["fipo-trial0004"]
    assert trial.params == {"lr": "0.0005", "fipo_clip_high_only": "true"}
    assert trial.points["value"] == [(0, 0.4)]
    assert trial.points["constraint.collapse"] == [(0, -0.5)]
    assert found["fipo-trial0003"].tags["fipo.reason"] == "out of memory"
    assert not found["fipo-trial0005"].points
    assert found["runs/fipo-trial0004-seed1"].parent == "fipo-trial0004"
    assert found["."].points["best/fipo"] == [(0, 0.3), (4, 0.4)]
    assert (found["."].status, found["."].params["sampler"]) == ("RUNNING", "TPESampler")
    assert found["winners"].parent == "."
    assert found["winners/runs/fipo-seed0"].parent == "winners/fipo"


def test_studies_of_one_name_are_two_experiments_in_one_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_database())
    for place in ("here", "there"):
        write_comparison(tmp_path / place / "demo", ["dapo"], seeds=1, steps=1)
        assert run("mirror", tmp_path / place / "demo", "--tracking_uri", uri) == 0
    identity = json.loads((tmp_path / "there/demo/.mirror.json").read_text())["study_id"]
    assert copies(tmp_path, "demo") == copies(tmp_path, f"demo-{identity[:8]}")


def test_a_damaged_run_is_named_and_the_others_are_mirrored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "demo"
    write_comparison(study, ["dapo"], seeds=2, steps=1)
    (study / "runs" / "dapo-seed0" / "metrics.jsonl").write_text("no json\n")
    assert mirror(study) == 1
    error = capsys.readouterr().err
    assert "dapo-seed0/metrics.jsonl, line 1: expected metrics" in error
    assert error.count("\n") == 1
    assert "runs/dapo-seed1" in copies(tmp_path, "demo")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_dead_server_is_one_line_and_soon(comparison: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mirror", comparison, "--tracking_uri", f"http://me:secret@127.0.0.1:{closed_port()}") == 1
    error = capsys.readouterr().err
    assert "Connection refused" in error
    assert "secret" not in error
    assert error.count("\n") == 1


def test_an_older_database_is_named_with_what_brings_it_up_to_date(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("mirror", comparison, "--tracking_uri", f"sqlite:///{tmp_path / 'new.db'}") == 0
    shutil.copy(tmp_path / "new.db", tmp_path / "old.db")  # MLflow looks once in a process at a database of one name
    with closing(sqlite3.connect(tmp_path / "old.db")) as database, database:
        database.execute("update alembic_version set version_num = '0584bdc529eb'")
    capsys.readouterr()
    uri = f"sqlite:///{tmp_path / 'old.db'}"
    assert run("mirror", comparison, "--tracking_uri", uri) == 1
    error = capsys.readouterr().err
    assert f"python -m mlflow db upgrade {uri}" in error
    assert error.count("\n") == 1


def test_following_a_dead_server_says_so_once_and_ends_with_the_study(
    comparison: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    until = time.monotonic() + 0.2
    with pytest.raises(HarnessError, match="not reached"):
        follow(comparison, f"http://127.0.0.1:{closed_port()}", lambda: time.monotonic() > until)
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 1
    assert notes[0].startswith("note: MLflow at http://127.0.0.1")
    assert "rebuilds it" in notes[0]


def mirroring(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.sweeps.commands", "mirror", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_two_followers_at_once_make_one_copy_which_is_whole_when_the_study_has_ended(tmp_path: Path) -> None:
    study, ended = tmp_path / "demo", tmp_path / "ended"
    write_comparison(study, ["dapo"], seeds=1, steps=2)
    processes = [mirroring(study, "--follow", "--until", ended) for _ in range(2)]  # both make the database
    deadline = time.monotonic() + 60
    while not (tmp_path / "mlartifacts").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    write_comparison(study, ["dapo"], seeds=2, steps=3)
    ended.touch()
    for process in processes:
        assert (process.communicate(timeout=60)[1], process.returncode) == ("", 0)
    found = copies(tmp_path, "demo")
    assert len(found) == 4
    assert len(found["runs/dapo-seed1"].points["rollout/accuracy"]) == 3


def test_the_study_must_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("mirror", tmp_path) == 2
    assert "expected a study folder with a study.json" in capsys.readouterr().err
    write(tmp_path / "study.json", {"arms": []})
    assert run("mirror", tmp_path, "--until", "x") == 2
    assert not (tmp_path / ".mirror.json").exists()


def test_mlflow_is_imported_by_the_first_pass_only() -> None:
    code = "import sys, tests.sweeps.commands; print({'mlflow', 'optuna_dashboard', 'sqlalchemy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
