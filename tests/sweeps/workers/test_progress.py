import json
import re
import subprocess
from pathlib import Path

import pytest

from harness import write_json
from sweeps import arms_of, load_family
from sweeps.study.folder import PlannedRun, planned_runs
from sweeps.workers.attempts import Attempt
from sweeps.workers.progress import Progress, make_console
from sweeps.workers.sessions import Session


def test_a_failing_runs_last_words_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    words = "dapo-seed0: FAILED: error: could not read [/data/model]"
    make_console().print(words)
    assert capsys.readouterr().out == f"{words}\n"


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


def test_a_killed_run_is_no_failed_one_until_it_is_given_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = planned_runs(arms_of(load_family("controlled"), {"dapo": 1}, "demo", {}), tmp_path)
    progress = Progress([run], make_console(), attempts=2)
    assert progress.seconds_left() is None
    recorded(run, steps=10)
    progress.update([], [attempt(run, "kill -9 $$")])
    assert capsys.readouterr().out.startswith("dapo-seed0: will be started again: killed by SIGKILL")
    assert progress.to_be_repeated(run)
    assert "failed" not in progress.text()
    left = progress.seconds_left()
    assert left is not None
    assert left > 0
    recorded(run, steps=5)  # resumed from an earlier checkpoint
    progress.update([], [attempt(run, "kill -9 $$")])
    assert capsys.readouterr().out.startswith("dapo-seed0: FAILED: killed by SIGKILL")
    assert not progress.to_be_repeated(run)
    assert progress.text() == "0 of 1 runs, 1 failed, 0 s left"
    assert progress.seconds_left() == 0


def test_a_finished_run_whose_process_was_killed_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = planned_runs(arms_of(load_family("controlled"), {"dapo": 1}, "demo", {}), tmp_path)
    progress = Progress([run], make_console(), attempts=2)
    recorded(run, run.config.run.steps, "finished")
    progress.update([], [attempt(run, "kill -9 $$")])
    assert capsys.readouterr().out == "dapo-seed0: accuracy 0.50, 9 tokens, 1 s (1 of 1 runs)\n"
    assert progress.text() == "1 of 1 runs, 0 s left"
    assert progress.seconds_left() == 0
    assert not progress.to_be_repeated(run)


def test_runs_under_way_are_shown_with_their_steps(tmp_path: Path) -> None:
    runs = planned_runs(arms_of(load_family("controlled"), {"dapo": 2}, "demo", {}), tmp_path)
    progress = Progress(runs, make_console())
    recorded(runs[1], steps=3)
    progress.update([attempt(runs[1], "exit 0")], [])
    assert re.fullmatch(r"0 of 2 runs, \d+ (s|min) left; dapo-seed1 3/20", progress.text())
