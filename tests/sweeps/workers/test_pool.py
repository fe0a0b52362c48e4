import json
import os
import signal
from pathlib import Path

import pytest

from harness import Config, UsageError
from sweeps.study.folder import PlannedRun
from sweeps.workers.attempts import latest_metrics
from sweeps.workers.pool import Pool, gpu_places
from tests.harness.tiny import small_settings
from tests.sweeps.processes import has_ended
from tests.waiting import wait_until


def planned(study: Path, name: str = "dapo", **settings: object) -> PlannedRun:
    run = PlannedRun(name, 0, Config(), study)
    run.config_file.parent.mkdir(exist_ok=True)
    run.config_file.write_text(json.dumps(settings), encoding="utf-8")
    return run


@pytest.mark.train
def test_a_run_that_was_stopped_goes_on_where_it_was(model_folder: str, tmp_path: Path) -> None:
    quick, slow = (
        planned(tmp_path, name, **small_settings(model_folder, steps=20, eval_every=100, prompts_per_step=prompts))
        for name, prompts in (("quick", 4), ("slow", 64))
    )
    with Pool(tmp_path, [(), ()]) as pool:
        for run in (slow, quick):
            pool.start(run)
        wait_until(lambda: latest_metrics(slow.folder), "no step")
    done = latest_metrics(slow.folder)
    status = json.loads((slow.folder / "status.json").read_text(encoding="utf-8"))
    assert status["reason"].startswith("stopped by SIGTERM")  # once: the second would have interrupted its step
    assert (status["reason_code"], slow.reason_code()) == ("stopped", "stopped")
    with Pool(tmp_path, [()]) as pool:
        pool.start(slow)
        assert endings(pool) == {"slow-seed0": "finished"}
    assert slow.state() == "finished"
    (resumed,) = (slow.folder / "resumes.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(resumed)["steps_done"] == done["step"] + 1
    assert not (tmp_path / "superseded").exists()


def endings(pool: Pool) -> dict[str, str]:
    """The kinds of all endings by run, once there is one."""
    found: dict[str, str] = {}
    wait_until(lambda: found.update({run.name: ending.kind for run, ending in pool.ended()}) or found, "none ends")
    return found


@pytest.mark.train
def test_a_run_that_is_killed_is_started_again_three_times(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = planned(tmp_path, **small_settings(model_folder, steps=400))
    with Pool(tmp_path, [()]) as pool:
        pool.start(run)
        for death in (1, 2, 3):
            kill(pool, run)
            wait_until(lambda: not pool.ended() and run in pool.running, "it is not started again")
            words = "killed by SIGKILL (out of memory, if nobody did it); started again at most 3 times"
            assert f"dapo-seed0: {words}, this was {death}\n" in capsys.readouterr().out
        kill(pool, run)
        assert endings(pool) == {"dapo-seed0": "failed"}


def kill(pool: Pool, run: PlannedRun) -> None:
    """SIGKILL to the run's process, waited for."""
    session, _ = pool.running[run]
    assert session.leader is not None
    os.killpg(session.leader.pid, signal.SIGKILL)
    wait_until(lambda: session.poll() is not None, "it lives")


@pytest.mark.parametrize("status", ["", "{", "[]", '{"state": 3}', "{}"])
def test_a_run_whose_status_is_damaged_can_be_resumed(tmp_path: Path, status: str) -> None:
    run = planned(tmp_path)
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text("{}", encoding="utf-8")
    (run.folder / "status.json").write_text(status, encoding="utf-8")
    assert run.can_be_resumed


TASK = """
import json, os, time
from pathlib import Path
Path(FOLDER, f"{os.getpid()}.json").write_text(json.dumps(dict(os.environ)))
time.sleep(600)
"""


def test_each_run_has_gpus_of_its_own_and_no_process_is_left_when_they_are_given_up(
    model_folder: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(f"FOLDER = {str(tmp_path)!r}\n{TASK}", encoding="utf-8")
    with Pool(tmp_path, [("GPU-1", "GPU-2"), ("GPU-3",)]) as pool:
        own = small_settings(model_folder, task=f"{tmp_path}/mine.py:Mine", max_prompt_tokens=64)
        sessions = [pool.start(planned(tmp_path, name, **own)) for name in ("dapo", "fipo")]
        assert pool.free == []
        leaders = [session.leader for session in sessions if session.leader]
        seen = [environment_of(tmp_path / f"{leader.pid}.json") for leader in leaders]
        assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == ["GPU-1,GPU-2", "GPU-3"]
        assert seen[0]["MASTER_PORT"] != seen[1]["MASTER_PORT"]
        assert [os.getsid(leader.pid) for leader in leaders] == [leader.pid for leader in leaders]
        # a fork gets no GPU: they are children of this process, not of the server
        assert [leader.ppid() for leader in leaders] == [os.getpid()] * 2
    assert None not in [session.poll() for session in sessions]
    assert len(pool.free) == 2


def environment_of(file: Path) -> dict[str, str]:
    """The variables that a process found."""
    wait_until(lambda: file.is_file() and file.read_text(encoding="utf-8").endswith("}"), "no environment")
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found


@pytest.mark.train
def test_ending_a_trial_ends_its_ranks_which_lead_sessions_of_their_own(model_folder: str, tmp_path: Path) -> None:
    run = planned(tmp_path, **small_settings(model_folder, steps=400, backend="deepspeed", nproc=2))
    session = Pool(tmp_path, [()]).start(run)
    wait_until((run.folder / "metrics.jsonl").exists, "no step")
    assert session.leader is not None
    ranks = session.leader.children()
    assert [os.getsid(rank.pid) for rank in ranks] == [rank.pid for rank in ranks]
    assert len(ranks) == 2
    session.end()  # SIGKILL to the session of the command
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
