"""GPU slots, from a given list of UUIDs and a stand-in for nvidia-smi: no GPU is needed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import HarnessError, UsageError
from harness.config.schema import Config
from sweeps.study.folder import PlannedRun
from sweeps.workers import slots
from sweeps.workers.gpus import gpu_groups, listed_gpus
from sweeps.workers.slots import Slot, held_slots
from tests.harness.tiny import small_settings
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
UUIDS = [f"GPU-{number:08d}-0000-0000-0000-000000000000" for number in range(8)]


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that lists 8 GPUs and says how much memory they hold: the file's content, in MiB, 10 by default."""
    used = tmp_path / "used"
    used.write_text("10", encoding="utf-8")
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    rows = "\n".join(
        f'echo "{uuid}, $([ $1 = --query-gpu=uuid,index ] && echo {n} || cat {used})"' for n, uuid in enumerate(UUIDS)
    )
    program.write_text(f"#!/bin/sh\n{rows}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return used


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search's folder, with a cache of the test's own."""
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "study"


GROUPS = gpu_groups(",".join(UUIDS), 2)
HOLDER = """
import sys, time
from pathlib import Path
from sweeps.workers.slots import held_slots
with held_slots(Path("other"), [tuple(sys.argv[1:])]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.usefixtures("study")
def test_gpus_that_another_study_of_the_host_uses_are_left_to_it_until_it_ends(study: Path) -> None:
    command = [sys.executable, "-c", HOLDER, *GROUPS[0]]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with held_slots(study, GROUPS) as found:
            assert [slot.gpus for slot in found] == GROUPS[1:]
        half = (UUIDS[1], UUIDS[2])  # of which one is held: none is taken
        with pytest.raises(UsageError, match="every GPU is held by another study"), held_slots(study, [half]):
            pass
        with held_slots(study, [(UUIDS[2],), (), ()]) as found:
            assert [slot.gpus for slot in found] == [(UUIDS[2],), (), ()]
        other.kill()
    with held_slots(study, GROUPS) as found:
        assert [slot.gpus for slot in found] == GROUPS


@pytest.mark.parametrize(("size", "most", "groups"), [(2, 0, 4), (2, 3, 3), (3, 0, 2), (8, 0, 1)])
def test_groups(size: int, most: int, groups: int) -> None:
    found = gpu_groups(",".join(UUIDS), size, most)
    assert len(found) == groups
    assert len({uuid for group in found for uuid in group}) == sum(map(len, found))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "--gpus: expected different UUIDs"),
        ("GPU-a,GPU-a", "--gpus: expected different UUIDs"),
        (",".join(UUIDS), "--gpus_per_trial 9: expected at least so many GPUs, got 8"),
        ("all", "--gpus all: expected GPUs that nvidia-smi lists, got none"),
    ],
)
def test_wrong_gpus_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, said: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without nvidia-smi
    with pytest.raises(UsageError, match=f"^{said}"):
        gpu_groups(given, 9)


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("visible", "expected"), [(None, UUIDS), ("1,3", [UUIDS[1], UUIDS[3]]), (UUIDS[5], [UUIDS[5]]), ("", [])]
)
def test_all_gpus_are_those_that_this_process_may_see(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: list[str]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert listed_gpus("all") == expected


def planned(study: Path, model: str, name: str) -> PlannedRun:
    """A run of many steps."""
    run = PlannedRun(name, 0, Config(), study)
    run.config_file.parent.mkdir(parents=True, exist_ok=True)
    run.config_file.write_text(json.dumps(small_settings(model, steps=1000, eval_every=1000)), encoding="utf-8")
    return run


@pytest.mark.train
@pytest.mark.usefixtures("nvidia_smi")
def test_a_killed_run_leaves_nothing_and_its_slot_is_used_again(model_folder: str, tmp_path: Path) -> None:
    used, other = Slot("a", tuple(UUIDS[:2])), Slot("b", tuple(UUIDS[2:4]))
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


@pytest.mark.train
def test_a_slot_whose_gpu_memory_is_not_given_back_is_not_used_again(
    model_folder: str, tmp_path: Path, nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "GPU_WAIT_S", 0.5)
    slot = Slot("a", tuple(UUIDS[:2]))
    slot.start(planned(tmp_path, model_folder, "one"))
    nvidia_smi.write_text("5000", encoding="utf-8")
    slot.ask_to_stop()
    with pytest.raises(HarnessError, match="GPU memory was not given back: 4990 MiB on GPU-00000000"):
        slot.clear(30.0)
    nvidia_smi.write_text("20", encoding="utf-8")
    slot.clear()


def environment_of(pid: int) -> dict[str, str]:
    """The variables that a process was started with."""
    found: dict[str, str] = {}

    def read() -> bool:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found.update(word.decode().split("=", 1) for word in words if b"=" in word)
        return "MASTER_PORT" in found

    wait_until(read, "no environment")
    return found
