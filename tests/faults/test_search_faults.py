"""A search that is killed again and again, torn and starved of disk: nothing that ended is lost, nothing runs twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sweeps.search.samplers import design
from sweeps.search.spaces import load_space
from tests.faults.amount import THOROUGH
from tests.harness.tiny import save_direct_answers
from tests.sweeps.processes import processes_that_name
from tests.sweeps.search.searching import arguments, controller, rows, starts_of
from tests.waiting import LONG_S, wait_until

pytestmark = pytest.mark.train

TRIALS, KILLS = 4, 100
thorough_alone = pytest.mark.skipif(not THOROUGH, reason="a part of make test-faults")
# which process is struck: of the search's own, and of its runs
STRUCK = ("controller", "trial", "both", "journal", "trial")
CHANGES = {"trials": TRIALS, "sampler": "qmc", "steps": 3, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model as a folder: no warm start is waited for."""
    return save_direct_answers(tmp_path_factory.mktemp("model"))


def records_of(study: Path) -> dict[str, list[dict[str, object]]]:
    """Every run's lines of metrics without what may differ between two runs of the same settings."""
    found = {}
    for path in sorted((study / "runs").glob("*/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found[path.parent.name] = [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]
    return found


def told(study: Path) -> list[tuple[object, ...]]:
    """What the search found: settings and values of every trial."""
    return [(row["trial"], row["state"], row["param.lr"], row["param.epsilon"], row["values"]) for row in rows(study)]


@pytest.fixture(scope="module")
def truth(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same search without a fault."""
    folder = tmp_path_factory.mktemp("truth")
    process = controller(arguments(folder, model, **CHANGES), folder / "log")
    assert process.wait(LONG_S) == 0, (folder / "log").read_text(encoding="utf-8")
    return folder / "study"


def runs_under_way(study: Path, trial: str = "") -> list[int]:
    """The numbers of the living processes of the study's runs, or of a trial's."""
    return processes_that_name("-m harness ", f"{study}/", trial)


def strike(kind: str, process: subprocess.Popen[bytes], study: Path, draw: random.Random) -> None:
    """kill -9 of what is named; with `journal` the controller's last record is torn too."""
    runs = runs_under_way(study)
    if kind != "controller" and kind != "journal":
        for pid in runs if kind == "both" else runs[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if kind != "trial":
        process.kill()
        process.wait()
    journal = study / "optuna.journal"
    if kind == "journal" and journal.is_file():
        content = journal.read_bytes()
        last = content[:-1].rfind(b"\n") + 1
        if last:
            os.truncate(journal, draw.randint(last, len(content)))


def finished_runs(study: Path) -> dict[str, bytes]:
    """The metrics of runs that have finished."""
    found = {}
    for path in (study / "runs").glob("*/status.json"):
        with suppress(ValueError, OSError):
            if json.loads(path.read_bytes())["state"] == "finished":
                found[path.parent.name] = (path.parent / "metrics.jsonl").read_bytes()
    return found


def test_a_search_that_is_struck_ends_with_every_trial_once(model: str, tmp_path: Path) -> None:
    """The short form of what follows: a trial's process, then the controller with its journal."""
    study, draw = tmp_path / "study", random.Random(0)
    command = arguments(tmp_path, model, **CHANGES | {"trials": 2, "slots": 1, "steps": 60, "eval_every": 60})
    process = controller(command, tmp_path / "log")
    wait_until(lambda: list(study.glob("runs/*/checkpoints/step_*")), "no checkpoint was written")
    strike("trial", process, study, draw)
    words = "killed by SIGKILL (out of memory, if nobody did it); started again at most 3 times, this was 1"
    wait_until(lambda: words in (tmp_path / "log").read_text(encoding="utf-8"), "the death was not noticed")
    wait_until(lambda: runs_under_way(study), "the trial was not started again")
    strike("journal", process, study, draw)
    seen = finished_runs(study)
    last = controller(command, tmp_path / "log")
    assert last.wait(LONG_S) == 0, (tmp_path / "log").read_text(encoding="utf-8")
    space = load_space(str(tmp_path / "space.toml"), "dapo")
    planned = design(space, "qmc", 2, 0)
    assert planned is not None
    for row, values in zip(rows(study), planned, strict=True):
        assert (row["state"], row["param.lr"], row["param.epsilon"]) == ("finished", values["lr"], values["epsilon"])
    assert list(study.glob("runs/*/resumes.jsonl")), "the trial that was struck did not go on from its checkpoint"
    assert_nothing_was_lost(study, seen)


def assert_nothing_was_lost(study: Path, seen: dict[str, bytes]) -> None:
    """Finished runs stay as they were seen, and none was finished twice or is left behind."""
    assert seen.items() <= finished_runs(study).items()
    assert set(starts_of(study).values()) == {1}, "a run was finished twice"
    assert runs_under_way(study) == []


def assert_report_can_be_made(study: Path) -> None:
    command = [sys.executable, "-m", "analysis", "report", str(study)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (study / "report" / "report.html").is_file()


@thorough_alone
def test_killed_at_random_again_and_again_it_ends_as_if_it_had_not_been(
    truth: Path, model: str, tmp_path: Path
) -> None:
    draw, kills, searches = random.Random(0), 0, 0
    while kills < KILLS:
        searches += 1
        folder = tmp_path / str(searches)
        folder.mkdir()
        command, study = arguments(folder, model, **CHANGES), folder / "study"
        seen: dict[str, bytes] = {}
        for number in range(12):
            process = controller(command, folder / "log")
            with suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(2.0, 9.0))
            if process.poll() is not None:
                break
            strike(STRUCK[number % len(STRUCK)], process, study, draw)
            kills += 1
            if process.poll() is None:
                process.kill()  # it goes on without the run that was struck for a moment only
                process.wait()
            now = finished_runs(study)
            assert seen.items() <= now.items()
            seen = now
        last = controller(command, folder / "log")
        words = (folder / "log").read_text(encoding="utf-8")
        assert last.wait(LONG_S) == 0, words
        assert told(study) == told(truth), words
        assert records_of(study) == records_of(truth)
        assert_nothing_was_lost(study, seen)
        assert_report_can_be_made(study)


@thorough_alone
def test_a_trial_that_dies_too_often_has_failed_and_the_others_go_on(model: str, tmp_path: Path) -> None:
    study = tmp_path / "study"
    process = controller(arguments(tmp_path, model, **CHANGES | {"trials": 2}), tmp_path / "log")
    struck: set[int] = set()
    while process.poll() is None:
        for pid in set(runs_under_way(study, "trial0001")) - struck:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                struck.add(pid)
        time.sleep(0.05)
    assert process.returncode == 0
    first, second = rows(study)
    assert first["state"] == "finished"
    assert (second["state"], second["attempts"]) == ("failed", 4)
    assert second["reason"] == "its processes died 4 times: killed by SIGKILL (out of memory, if nobody did it)"
    assert len(struck) == 4
