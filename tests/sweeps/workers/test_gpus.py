"""GPU slots, from a given list of UUIDs and a stand-in for nvidia-smi: no GPU is needed."""

import argparse
import json
import os
from pathlib import Path

import pytest
from sweeps.workers.host_slots import gpu_groups, held_slots
from sweeps.workers.leases import acquire, read_lease

from harness import HarnessError, UsageError
from harness.config.schema import Config
from sweeps.study.folder import PlannedRun
from sweeps.workers import slots
from sweeps.workers.gpus import listed_gpus
from sweeps.workers.holders import Holder
from sweeps.workers.slots import LocalSlot
from tests.harness.tiny import small_settings
from tests.sweeps.processes import dead_holder, wait_for

UUIDS = [f"GPU-{number:08d}-0000-0000-0000-000000000000" for number in range(8)]


def options(**changes: object) -> argparse.Namespace:
    given = {"gpus": ",".join(UUIDS), "gpus_per_trial": 2, "slots": 0, "launcher": "local"}
    return argparse.Namespace(**given | changes)


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


def test_eight_gpus_are_four_slots_of_two_each_under_leases(study: Path, tmp_path: Path) -> None:
    leases = tmp_path / "cache" / "leases"
    with held_slots(study, options(), 0) as found:
        assert [slot.gpus for slot in found] == [tuple(UUIDS[n : n + 2]) for n in (0, 2, 4, 6)]  # type: ignore[attr-defined]
        assert {path.stem for path in leases.iterdir()} == set(UUIDS)
        # another search on this host gets none of them
        with pytest.raises(UsageError, match="every slot is held by another search"), held_slots(study, options(), 0):
            pass
    assert list(leases.iterdir()) == []


def test_what_another_search_holds_is_left_to_it_and_what_a_dead_one_held_is_not(study: Path, tmp_path: Path) -> None:
    leases = tmp_path / "cache" / "leases"
    theirs = acquire(leases / f"{UUIDS[1]}.json")
    (leases / f"{UUIDS[4]}.json").write_text(json.dumps({"holder": dead_holder().written()}), encoding="utf-8")
    with held_slots(study, options(), 0) as found:
        assert [slot.gpus[0] for slot in found] == [UUIDS[2], UUIDS[4], UUIDS[6]]  # type: ignore[attr-defined]
    assert theirs is not None
    assert [path.stem for path in leases.iterdir()] == [UUIDS[1]]


@pytest.mark.parametrize(
    ("changes", "groups"),
    [({}, 4), ({"slots": 3}, 3), ({"gpus_per_trial": 3}, 2), ({"gpus_per_trial": 8}, 1), ({"gpus_per_trial": 0}, 0)],
)
def test_groups(changes: dict[str, object], groups: int) -> None:
    found = gpu_groups(options(**changes))
    assert len(found) == groups
    assert len({uuid for group in found for uuid in group}) == sum(map(len, found))


@pytest.mark.parametrize("given", ["", ",", "GPU-a,GPU-a"])
def test_gpus_that_are_no_list_are_refused(given: str) -> None:
    with pytest.raises(UsageError, match=r"^--gpus: expected different UUIDs"):
        listed_gpus(given)


def test_too_few_gpus_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^--gpus_per_trial 9: expected at least so many GPUs, got 8"):
        gpu_groups(options(gpus_per_trial=9))


def test_without_nvidia_smi_gpus_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"^--gpus all: expected GPUs that nvidia-smi lists, got none"):
        listed_gpus("all")


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
    path = tmp_path / "slots" / "gpus.json"
    leases = [lease for lease in [acquire(path)] if lease]
    used, other = LocalSlot("a", tuple(UUIDS[:2]), leases), LocalSlot("b", tuple(UUIDS[2:4]))
    (first,), (beside,) = (
        slot.start([planned(tmp_path, model_folder, name)]) for slot, name in ((used, "one"), (other, "two"))
    )
    assert used.process is not None
    assert other.process is not None
    seen = [environment_of(slot.process.pid) for slot in (used, other) if slot.process]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == [",".join(UUIDS[:2]), ",".join(UUIDS[2:4])]
    assert seen[0]["MASTER_PORT"] != seen[1]["MASTER_PORT"]
    assert [os.getsid(slot.process.pid) for slot in (used, other) if slot.process] == [
        used.process.pid,
        other.process.pid,
    ]
    lease = read_lease(path)
    assert (lease["run"], lease["gpus"], lease["port"]) == ("one-seed0", UUIDS[:2], int(seen[0]["MASTER_PORT"]))
    assert lease["runner"] == Holder.of(used.process.pid).written()
    used.process.kill()
    wait_for(lambda: first.process.poll() is not None)
    used.clear()
    assert read_lease(path) == {"holder": Holder.this().written()}
    (again,) = used.start([planned(tmp_path, model_folder, "three")])
    assert used.process is not None
    assert environment_of(used.process.pid)["CUDA_VISIBLE_DEVICES"] == ",".join(UUIDS[:2])
    slots.stop_all([used, other])
    assert None not in [again.process.poll(), beside.process.poll()]


@pytest.mark.train
def test_a_slot_whose_gpu_memory_is_not_given_back_is_not_used_again(
    model_folder: str, tmp_path: Path, nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "GPU_WAIT_S", 0.5)
    slot = LocalSlot("a", tuple(UUIDS[:2]))
    slot.start([planned(tmp_path, model_folder, "one")])
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

    wait_for(read)
    return found
