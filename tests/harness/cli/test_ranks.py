import json
from pathlib import Path

import pytest

from harness.cli.ranks import noted
from harness.console import command
from harness.errors import RanksFailed

RUNNING = {"state": "running", "reason_code": None, "reason": None, "exit_code": None, "steps_done": 0}


@pytest.mark.parametrize(("is_final", "state"), [(False, "preempted"), (True, "failed")])
def test_a_failure_that_no_rank_recorded_is_recorded_with_the_steps_so_far(
    is_final: bool, state: str, tmp_path: Path
) -> None:
    (tmp_path / "status.json").write_text(json.dumps(RUNNING), encoding="utf-8")
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1}\n{"step"', encoding="utf-8")
    said = str(noted(RanksFailed("rank 1 was killed", 137, "rank_failed", is_final), tmp_path))
    assert said.removeprefix("rank 1 was killed") == (
        "" if is_final else f"; resume with: {command('harness', 'resume', tmp_path)}"
    )
    assert json.loads((tmp_path / "status.json").read_text(encoding="utf-8")) == {
        "state": state,
        "reason_code": "rank_failed",
        "reason": "rank 1 was killed",
        "exit_code": 137,
        "steps_done": 2,
    }


def test_what_a_rank_recorded_itself_stays(tmp_path: Path) -> None:
    content = json.dumps(RUNNING | {"state": "failed", "reason": "its own"})
    (tmp_path / "status.json").write_text(content, encoding="utf-8")
    noted(RanksFailed("rank 0 failed", 1, is_final=True), tmp_path)
    assert (tmp_path / "status.json").read_text(encoding="utf-8") == content
