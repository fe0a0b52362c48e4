import json
import os
import subprocess
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from harness import Config
from sweeps.study.folder import PlannedRun, set_aside
from sweeps.workers.attempts import latest_metrics
from sweeps.workers.slots import Slot, run_all
from tests.harness.tiny import save_direct_answers, small_settings
from tests.waiting import LONG_S, wait_until


@pytest.mark.parametrize(
    ("written", "step"),
    [
        (b'{"step": 0}\n{"step": 1}\n', 1),
        (b'{"step": 0}\n{"step": 1}\n{"st', 1),  # torn: still being written
        (b'{"step": 0}\n{"step": 1}', 0),
        (b'{"step": 0}\n{"text": "\xc3', 0),  # torn within a character
        (b'{"step": 0', None),
        (b"", None),
    ],
)
def test_latest_metrics_are_the_last_whole_line(tmp_path: Path, written: bytes, step: int | None) -> None:
    assert latest_metrics(tmp_path) is None
    (tmp_path / "metrics.jsonl").write_bytes(written)
    assert latest_metrics(tmp_path) == (None if step is None else {"step": step})


def planned(study: Path, name: str = "dapo") -> PlannedRun:
    run = PlannedRun(name, 0, Config(), study)
    run.config_file.parent.mkdir(exist_ok=True)
    run.config_file.write_text(json.dumps({"steps": 1}), encoding="utf-8")
    return run


def places(count: int) -> list[Slot]:
    return [Slot() for _ in range(count)]


def test_what_an_attempt_left_is_set_aside_under_a_new_name(tmp_path: Path) -> None:
    run = planned(tmp_path)
    for attempt in ("first", "second"):
        run.folder.mkdir(parents=True)
        (run.folder / "status.json").write_text(f'{{"state": "{attempt}"}}', encoding="utf-8")
        assert run.state() == attempt
        set_aside(run.folder, run.study)
        assert run.state() is None
    left = {path.parent.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("superseded/*/status.json")}
    assert left == {"dapo-seed0-1": '{"state": "first"}', "dapo-seed0-2": '{"state": "second"}'}


@pytest.mark.train
def test_a_run_that_was_stopped_goes_on_where_it_was(model_folder: str, tmp_path: Path) -> None:
    quick, slow = planned(tmp_path, "quick"), planned(tmp_path, "slow")
    for run, prompts in ((quick, 4), (slow, 64)):
        settings = small_settings(model_folder, steps=20, eval_every=100, prompts_per_step=prompts)
        run.config_file.write_text(json.dumps(settings), encoding="utf-8")
    going = run_all([slow, quick], places(2))
    while latest_metrics(slow.folder) is None:
        next(going)
    going.close()
    done = latest_metrics(slow.folder)
    assert done is not None
    status = json.loads((slow.folder / "status.json").read_text(encoding="utf-8"))
    assert status["reason"].startswith("stopped by SIGTERM")  # once: the second would have interrupted its step
    assert (status["reason_code"], slow.reason_code()) == ("stopped", "stopped")
    assert [attempt.failure for _, ended in run_all([slow], places(1)) for attempt in ended] == [None]
    assert slow.state() == "finished"
    (resumed,) = (slow.folder / "resumes.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(resumed)["steps_done"] == done["step"] + 1
    assert not (tmp_path / "superseded").exists()


@pytest.mark.parametrize("status", ["", "{", "[]", '{"state": 3}', "{}"])
def test_a_run_whose_status_is_damaged_can_be_resumed(tmp_path: Path, status: str) -> None:
    run = planned(tmp_path)
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text("{}", encoding="utf-8")
    (run.folder / "status.json").write_text(status, encoding="utf-8")
    assert run.can_be_resumed


def test_each_run_has_gpus_of_its_own_and_no_process_is_left_when_they_are_given_up(tmp_path: Path) -> None:
    runs, gpus = [planned(tmp_path, name) for name in ("dapo", "fipo", "grpo")], [("GPU-1", "GPU-2"), ("GPU-3",)]
    with closing(run_all(runs, [Slot(each) for each in gpus])) as going:
        running, ended = next(going)
        assert [attempt.run.arm for attempt in running] == ["dapo", "fipo"]
        assert ended == []
        assert [attempt.process.poll() for attempt in running] == [None, None]
        assert all(isinstance(attempt.process.process, subprocess.Popen) for attempt in running)  # a fork gets no GPU
        pids = [attempt.process.pid for attempt in running]
        seen = [environment_of(pid) for pid in pids]
        assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == ["GPU-1,GPU-2", "GPU-3"]
        assert seen[0]["MASTER_PORT"] != seen[1]["MASTER_PORT"]
        assert [os.getsid(pid) for pid in pids] == pids
    assert None not in [attempt.process.poll() for attempt in running]
    assert not (tmp_path / "logs" / "grpo-seed0.log").exists()


def environment_of(pid: int) -> dict[str, str]:
    """The variables that a process was started with."""
    found: dict[str, str] = {}

    def read() -> bool:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found.update(word.decode().split("=", 1) for word in words if b"=" in word)
        return "MASTER_PORT" in found

    wait_until(read, "no environment")
    return found


@pytest.mark.train
def test_ending_a_trial_ends_its_ranks_which_lead_sessions_of_their_own(tmp_path: Path) -> None:
    run, slot = planned(tmp_path), Slot()
    settings = small_settings(save_direct_answers(tmp_path), steps=400, backend="deepspeed", nproc=2)
    run.config_file.write_text(json.dumps(settings), encoding="utf-8")
    attempt = slot.start(run)
    wait_until((run.folder / "metrics.jsonl").exists, "no step")
    ranks = psutil.Process(attempt.process.pid).children()
    assert [os.getsid(rank.pid) for rank in ranks] == [rank.pid for rank in ranks]
    assert len(ranks) == 2
    slot.clear()  # SIGKILL to the session of the command
    gone, alive = psutil.wait_procs(ranks, timeout=LONG_S)
    assert (len(gone), alive) == (2, [])
