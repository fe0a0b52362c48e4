import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness import Config, UsageError
from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import Attempt, latest_metrics
from sweeps.workers.pool import Pool, gpu_places
from tests.harness.tiny import save_direct_answers, small_settings
from tests.sweeps.processes import has_ended
from tests.waiting import wait_until


def planned(study: Path, name: str = "dapo") -> PlannedRun:
    run = PlannedRun(name, 0, Config(), study)
    run.config_file.parent.mkdir(exist_ok=True)
    run.config_file.write_text(json.dumps({"steps": 1}), encoding="utf-8")
    return run


def run_all(pool: Pool, runs: list[PlannedRun]) -> Iterator[list[Attempt]]:
    """Start all, as many at a time as there are places; yields what has just ended, until nothing is left."""
    waiting = list(runs)
    with pool:
        while waiting or pool.running:
            while waiting and pool.free:
                pool.start(waiting.pop(0))
            yield pool.ended()
            pool.rest()


@pytest.mark.train
def test_a_run_that_was_stopped_goes_on_where_it_was(model_folder: str, tmp_path: Path) -> None:
    quick, slow = planned(tmp_path, "quick"), planned(tmp_path, "slow")
    for run, prompts in ((quick, 4), (slow, 64)):
        settings = small_settings(model_folder, steps=20, eval_every=100, prompts_per_step=prompts)
        run.config_file.write_text(json.dumps(settings), encoding="utf-8")
    with Pool(tmp_path, [(), ()]) as pool:
        for run in (slow, quick):
            pool.start(run)
        wait_until(lambda: latest_metrics(slow.folder), "no step")
    done = latest_metrics(slow.folder)
    status = json.loads((slow.folder / "status.json").read_text(encoding="utf-8"))
    assert status["reason"].startswith("stopped by SIGTERM")  # once: the second would have interrupted its step
    assert (status["reason_code"], slow.reason_code()) == ("stopped", "stopped")
    endings = [attempt.ending().kind for ended in run_all(Pool(tmp_path, [()]), [slow]) for attempt in ended]
    assert endings == ["finished"]
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
    pool = Pool(tmp_path, [("GPU-1", "GPU-2"), ("GPU-3",)])
    with pool:
        sessions = [pool.start(planned(tmp_path, name)).session for name in ("dapo", "fipo")]
        assert pool.free == []
        assert [session.poll() for session in sessions] == [None, None]
        assert all(isinstance(session.process, subprocess.Popen) for session in sessions)  # a fork gets no GPU
        pids = [session.process.pid for session in sessions]
        seen = [environment_of(pid) for pid in pids]
        assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == ["GPU-1,GPU-2", "GPU-3"]
        assert seen[0]["MASTER_PORT"] != seen[1]["MASTER_PORT"]
        assert [os.getsid(pid) for pid in pids] == pids
    assert None not in [session.poll() for session in sessions]
    assert len(pool.free) == 2


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
    run = planned(tmp_path)
    settings = small_settings(save_direct_answers(tmp_path), steps=400, backend="deepspeed", nproc=2)
    run.config_file.write_text(json.dumps(settings), encoding="utf-8")
    attempt = Pool(tmp_path, [()]).start(run)
    wait_until((run.folder / "metrics.jsonl").exists, "no step")
    ranks = psutil.Process(attempt.session.process.pid).children()
    assert [os.getsid(rank.pid) for rank in ranks] == [rank.pid for rank in ranks]
    assert len(ranks) == 2
    attempt.session.end()  # SIGKILL to the session of the command
    wait_until(lambda: all(map(has_ended, ranks)), "ranks live on")


UUIDS = [f"GPU-{number:08d}-0000-0000-0000-000000000000" for number in range(8)]


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that lists 8 GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo {uuid}\n" for uuid in UUIDS), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(("size", "most", "places"), [(2, 0, 4), (2, 3, 3), (3, 0, 2), (8, 0, 1)])
def test_places_share_the_gpus_of_the_host(size: int, most: int, places: int) -> None:
    found = gpu_places(size, most)
    assert len(found) == places
    assert [gpu for place in found for gpu in place] == UUIDS[: size * places]


@pytest.mark.usefixtures("nvidia_smi")
def test_a_search_takes_the_gpus_that_its_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"1,{UUIDS[5]}")
    assert gpu_places(1) == [("1",), (UUIDS[5],)]


@pytest.mark.parametrize("program", ["", "there"])
def test_too_few_gpus_are_refused(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    if program:
        request.getfixturevalue("nvidia_smi")
    else:
        monkeypatch.setenv("PATH", "")  # without nvidia-smi
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UsageError, match=f"^--gpus_per_trial 9: expected at least .*, got {8 if program else 0}$"):
        gpu_places(9)
