"""What MLflow has of a study: all that its folders say, once, however often logging was begun or killed."""

import functools
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import run_command
from sweeps.__main__ import main
from tests.sweeps.tracking.study_folders import KEYS, line, write_comparison, write_run

Capture = pytest.CaptureFixture[str]
pytestmark = [
    pytest.mark.filterwarnings(*words)
    for words in (  # of MLflow's own code, and of the databases that it leaves open
        ("ignore::DeprecationWarning:mlflow",),
        ("ignore::FutureWarning:mlflow",),
        ("ignore::ResourceWarning",),
        ("ignore::pytest.PytestUnraisableExceptionWarning",),
    )
]


class Logged(NamedTuple):
    """A run as MLflow has it."""

    status: str
    arm: str | None
    params: dict[str, str]
    points: dict[str, list[tuple[int, float]]]
    files: list[str]


def client_in(folder: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")


def logged(folder: Path, experiment: str) -> dict[str, Logged]:
    """What MLflow has of a study, by path; no path twice."""
    client = client_in(folder)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], max_results=1000) if found else []
    paths = {each.info.run_id: each.data.tags["fipo.path"] for each in runs}
    assert len(set(paths.values())) == len(runs), "a run was logged twice"
    assert not any("mlflow.parentRunId" in each.data.tags for each in runs), "MLflow draws nothing of runs below others"
    return {paths[each.info.run_id]: logged_run(client, each) for each in runs}


def logged_run(client: Any, each: Any) -> Logged:
    histories = {key: client.get_metric_history(each.info.run_id, key) for key in each.data.metrics}
    return Logged(
        each.info.status,
        each.data.tags.get("arm"),
        dict(each.data.params),
        {key: [(point.step, point.value) for point in history] for key, history in histories.items()},
        sorted(file.path for file in client.list_artifacts(each.info.run_id)),
    )


@functools.cache
def empty_database() -> bytes:
    """MLflow's database before anything is in it: its fifty migrations take seconds."""
    with tempfile.TemporaryDirectory() as folder:
        client_in(Path(folder)).search_experiments()
        return Path(folder, "mlflow.db").read_bytes()


def track(study: Path, *arguments: object) -> int:
    """The command's exit code; the environment, which is the tests' too, stays as it was."""
    database = study.parent / "mlflow.db"
    if not database.exists():
        database.write_bytes(empty_database())
    before, niceness = dict(os.environ), os.nice(0)
    try:
        return run_command(main, ["track", str(study), *map(str, arguments)])
    finally:
        assert os.nice(0) == niceness  # nor does it slow down the tests that follow
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that was logged."""
    study = tmp_path_factory.mktemp("runs") / "demo"
    write_comparison(study, ["dapo", "fipo"], seeds=2, steps=3)
    assert track(study) == 0
    return study


def test_a_comparison_is_an_experiment_of_its_runs_and_one_for_its_report(comparison: Path) -> None:
    found = logged(comparison.parent, "demo")
    assert {path: (run.arm, run.status) for path, run in found.items()} == {
        ".": (None, "FINISHED"),
        **{f"runs/{arm}-seed{seed}": (arm, "FINISHED") for arm in ("dapo", "fipo") for seed in (0, 1)},
    }
    assert found["."].files == ["figures", "study.json"]


def test_a_seed_has_the_settings_and_the_numbers_of_its_folder(comparison: Path) -> None:
    run = logged(comparison.parent, "demo")["runs/fipo-seed1"]
    recorded = json.loads((comparison / "runs/fipo-seed1/config.json").read_text())["config"]
    assert run.params.keys() == {name for section in recorded.values() for name in section}
    assert (run.params["lr"], run.params["loss_type"], run.params["dynamic_sampling"]) == ("0.0003", "fipo", "true")
    for key in (*KEYS, "rollout/accuracy"):
        assert run.points[key] == [(step, line(step)[key]) for step in range(3)]
    assert run.points["eval/accuracy"] == [(0, 0.5), (2, 0.25)]
    assert run.points["rollout/avg_at_32"] == [(step, step / 50) for step in range(3)]
    assert "loss/future_kl" not in run.points
    assert [step for step, _ in run.points["optimizer/grad_norm"]] == [0, 2], "what is not finite is left out"


def test_a_study_that_grows_is_logged_once_and_what_is_begun_anew_replaces_what_was(tmp_path: Path) -> None:
    study, whole = tmp_path / "grown" / "demo", tmp_path / "whole" / "demo"
    write_comparison(study, ["dapo"], seeds=1, steps=1)
    write_run(study / "runs" / "dapo-seed0", "dapo", 2, state="running")
    assert track(study) == 0
    assert logged(study.parent, "demo")["runs/dapo-seed0"].status == "RUNNING"
    forget_what_was_logged(study.parent)  # as if it was killed after the points and before the mark
    for folder in (study, whole):
        write_comparison(folder, ["dapo", "fipo"], seeds=2, steps=4)
        assert track(folder) == 0
    assert track(study) == 0
    assert logged(study.parent, "demo") == logged(whole.parent, "demo")
    again = study / "runs" / "dapo-seed0"
    (again / "environment.json").write_text('{"started_at": "2026-11-22T10:00:00+00:00"}')
    (again / "metrics.jsonl").write_text('{"step": 0, "rollout/accuracy": 0.75, "time/elapsed_s": 1.0}\n')
    assert track(study) == 0
    found = logged(study.parent, "demo")["runs/dapo-seed0"]
    assert (found.arm, found.points["rollout/accuracy"]) == ("dapo", [(0, 0.75)])
    assert KEYS[0] not in found.points


def forget_what_was_logged(folder: Path) -> None:
    client = client_in(folder)
    for each in client.search_runs([client.get_experiment_by_name("demo").experiment_id]):
        if "fipo.lines" in each.data.tags:
            client.delete_tag(each.info.run_id, "fipo.lines")


def test_a_search_is_an_experiment_of_its_runs_by_trial(tmp_path: Path) -> None:
    study = tmp_path / "search"
    write_comparison(study, ["fipo-trial0000", "fipo-trial0002"], seeds=1, steps=2)
    write_comparison(study / "winners", ["fipo"], seeds=2, steps=1)
    assert track(study) == 0
    found = logged(tmp_path, "search")
    assert {run.arm for run in found.values()} == {None, "fipo-trial0000", "fipo-trial0002", "winners/fipo"}
    assert found["runs/fipo-trial0002-seed0"].arm == "fipo-trial0002"
    assert found["winners/runs/fipo-seed0"].arm == "winners/fipo"


def test_plain_runs_and_studies_of_a_folder_are_logged_at_once(tmp_path: Path, capsys: Capture) -> None:
    for name in ("mine", "other"):
        write_run(tmp_path / "runs" / name, "fipo", 2)
    write_comparison(tmp_path / "runs" / "demo", ["dapo"], seeds=1, steps=1)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_database())
    assert track(tmp_path / "runs" / "mine", "--tracking_uri", uri) == 0  # a run alone: those beside it too
    assert {path: run.arm for path, run in logged(tmp_path, "runs").items()} == {"mine": None, "other": None}
    assert track(tmp_path / "runs", "--tracking_uri", uri) == 0
    assert "logged: 3 runs of " in capsys.readouterr().out
    assert logged(tmp_path, "runs")["mine"].points["rollout/accuracy"] == [(0, 0.0), (1, 0.01)]
    assert logged(tmp_path, "demo").keys() == {".", "runs/dapo-seed0"}


def test_studies_of_one_name_are_two_experiments_in_one_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_database())
    for place in ("here", "there"):
        write_comparison(tmp_path / place / "demo", ["dapo"], seeds=1, steps=1)
        assert track(tmp_path / place / "demo", "--tracking_uri", f"sqlite:///{tmp_path / 'mlflow.db'}") == 0
    other = next(path.name for path in (tmp_path / "there" / "mlartifacts").iterdir())
    assert logged(tmp_path, "demo") == logged(tmp_path, other)


def test_a_damaged_run_is_named_and_the_others_are_logged(tmp_path: Path, capsys: Capture) -> None:
    study = tmp_path / "demo"
    write_comparison(study, ["dapo"], seeds=2, steps=1)
    (study / "runs" / "dapo-seed0" / "metrics.jsonl").write_text("no json\n")
    assert track(study) == 1
    error = capsys.readouterr().err
    assert "dapo-seed0/metrics.jsonl: expected a JSON object a line" in error
    assert error.count("\n") == 1
    assert "runs/dapo-seed1" in logged(tmp_path, "demo")


@pytest.mark.parametrize(
    ("uri", "code", "words"),
    [
        ("http://me:secret@127.0.0.1:{port}", 1, "Connection refused"),
        ("nonsense://me:secret@nowhere", 2, "--tracking_uri: expected a server"),
        ("sqlite:////proc/none/mlflow.db", 1, "not reached"),
    ],
)
def test_an_address_that_cannot_be_reached_is_one_line_without_its_password(
    comparison: Path, capsys: Capture, port: int, uri: str, code: int, words: str
) -> None:
    assert track(comparison, "--tracking_uri", uri.format(port=port)) == code
    error = capsys.readouterr().err
    assert words in error
    assert "secret" not in error
    assert error.count("\n") == 1


def test_there_must_be_something_to_log(tmp_path: Path, capsys: Capture) -> None:
    assert track(tmp_path) == 2
    assert "expected a study, a run, or a folder of them" in capsys.readouterr().err
