"""GPU slots, from a given list of UUIDs and a stand-in for nvidia-smi: no GPU is needed."""

import json
import os
import signal
from pathlib import Path

import pytest

from harness import UsageError
from harness.config.schema import Config
from sweeps.study.folder import PlannedRun
from sweeps.workers import slots
from sweeps.workers.gpus import gpu_groups, visible_gpus
from sweeps.workers.slots import Slot
from tests.harness.tiny import small_settings
from tests.waiting import wait_until

UUIDS = [f"GPU-{number:08d}-0000-0000-0000-000000000000" for number in range(8)]


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that lists 8 GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    rows = "\n".join(f'echo "{uuid}, {number}"' for number, uuid in enumerate(UUIDS))
    program.write_text(f"#!/bin/sh\n{rows}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(("size", "most", "groups"), [(2, 0, 4), (2, 3, 3), (3, 0, 2), (8, 0, 1)])
def test_groups(size: int, most: int, groups: int) -> None:
    found = gpu_groups(size, most)
    assert len(found) == groups
    assert len({uuid for group in found for uuid in group}) == sum(map(len, found))


@pytest.mark.parametrize("gpus", [0, 8])
def test_too_few_gpus_are_refused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    if gpus:
        request.getfixturevalue("nvidia_smi")
    else:
        monkeypatch.setenv("PATH", "")  # without nvidia-smi
    with pytest.raises(UsageError, match=f"^--gpus_per_trial 9: expected at least so many GPUs .*, got {gpus}$"):
        gpu_groups(9)


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("visible", "expected"), [(None, UUIDS), ("1,3", [UUIDS[1], UUIDS[3]]), (UUIDS[5], [UUIDS[5]]), ("", [])]
)
def test_a_search_takes_the_gpus_that_its_process_may_see(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: list[str]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert visible_gpus() == expected


def planned(study: Path, model: str, name: str) -> PlannedRun:
    """A run of many steps."""
    run = PlannedRun(name, 0, Config(), study)
    run.config_file.parent.mkdir(parents=True, exist_ok=True)
    run.config_file.write_text(json.dumps(small_settings(model, steps=1000, eval_every=1000)), encoding="utf-8")
    return run


@pytest.mark.train
@pytest.mark.usefixtures("nvidia_smi")
def test_a_killed_run_leaves_nothing_and_its_slot_is_used_again(model_folder: str, tmp_path: Path) -> None:
    used, other = Slot(tuple(UUIDS[:2])), Slot(tuple(UUIDS[2:4]))
    first, beside = (
        slot.start(planned(tmp_path, model_folder, name)) for slot, name in ((used, "one"), (other, "two"))
    )
    seen = [environment_of(attempt.process.pid) for attempt in (first, beside)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == [",".join(UUIDS[:2]), ",".join(UUIDS[2:4])]
    assert seen[0]["MASTER_PORT"] != seen[1]["MASTER_PORT"]
    assert [os.getsid(attempt.process.pid) for attempt in (first, beside)] == [first.process.pid, beside.process.pid]
    os.kill(first.process.pid, signal.SIGKILL)
    wait_until(lambda: first.process.poll() is not None, "it goes on")
    used.clear()
    again = used.start(planned(tmp_path, model_folder, "three"))
    assert environment_of(again.process.pid)["CUDA_VISIBLE_DEVICES"] == ",".join(UUIDS[:2])
    slots.stop_all([used, other])
    assert None not in [again.process.poll(), beside.process.poll()]


def environment_of(pid: int) -> dict[str, str]:
    """The variables that a process was started with."""
    found: dict[str, str] = {}

    def read() -> bool:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found.update(word.decode().split("=", 1) for word in words if b"=" in word)
        return "MASTER_PORT" in found

    wait_until(read, "no environment")
    return found
