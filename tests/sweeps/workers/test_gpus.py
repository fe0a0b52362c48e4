"""GPU slots, from a given list of UUIDs and a stand-in for nvidia-smi: no GPU is needed."""

import os
from pathlib import Path

import pytest

from harness import UsageError
from sweeps.workers.gpus import gpu_groups, visible_gpus

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
