import json
import re
import subprocess
from pathlib import Path

import pytest

from harness import write_json
from sweeps import arms_of, load_family
from sweeps.study.folder import PlannedRun, planned_runs
from sweeps.workers.attempts import Attempt
from sweeps.workers.progress import ATTEMPTS, Progress, steps_of
from sweeps.workers.sessions import Session


def recorded(run: PlannedRun, steps: int, state: str = "running") -> None:
    """What a run has left after so many steps."""
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.folder / "status.json", {"state": state})
    (run.folder / "config.json").write_text("{}", encoding="utf-8")
    line = {"step": steps - 1, "rollout/accuracy": 0.5, "rollout/response_tokens_mean": 9.0, "time/elapsed_s": 1.0}
    (run.folder / "metrics.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")


def attempt(run: PlannedRun, code: str) -> Attempt:
    """A process of the run that has ended so."""
    process = subprocess.Popen(["sh", "-c", code])
    process.wait()
    return Attempt(run, Session(process, None))


@pytest.fixture
def run(tmp_path: Path) -> PlannedRun:
    return planned_runs(arms_of(load_family("controlled"), {"dapo": 1}, "demo", {}), tmp_path)[0]


def test_a_killed_run_is_no_failed_one_until_it_is_given_up(
    run: PlannedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress([run])
    assert progress.seconds_left() is None
    recorded(run, steps=10)
    for _ in range(ATTEMPTS - 1):
        assert progress.update([], [attempt(run, "kill -9 $$")]) == [run]
        assert capsys.readouterr().out.startswith("dapo-seed0: will be started again: killed by SIGKILL (out of mem")
        assert "failed" not in progress.text()
    left = progress.seconds_left()
    assert left is not None
    assert left > 0
    recorded(run, steps=5)  # resumed from an earlier checkpoint
    assert progress.update([], [attempt(run, "kill -9 $$")]) == []
    assert capsys.readouterr().out.startswith("dapo-seed0: FAILED: killed by SIGKILL")
    assert progress.text() == "0 of 1 runs, 1 failed, 0 s left"


def test_a_finished_run_whose_process_was_killed_is_finished(
    run: PlannedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress([run])
    recorded(run, run.config.run.steps, "finished")
    assert progress.update([], [attempt(run, "kill -9 $$")]) == []
    assert capsys.readouterr().out == "dapo-seed0: accuracy 0.50, 9 tokens, 1 s (1 of 1 runs)\n"
    assert progress.text() == "1 of 1 runs, 0 s left"


def test_runs_under_way_are_shown_with_their_steps_and_last_words_as_they_are(
    run: PlannedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress([run])
    recorded(run, steps=3)
    under_way = attempt(run, "exit 0")
    assert steps_of(under_way) == "dapo-seed0 3/20"
    progress.update([under_way], [])
    assert re.fullmatch(r"0 of 1 runs, \d+ (s|min) left", progress.text())
    run.log.parent.mkdir()
    run.log.write_text("error: could not read [/data/model]\n", encoding="utf-8")
    progress.update([], [attempt(run, "exit 1")])
    assert f"FAILED: error: could not read [/data/model] (log: {run.log})" in capsys.readouterr().out.replace("\n", "")
