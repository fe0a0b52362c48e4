"""The check of a GPU finds what is wrong, and runs on a CPU; the sections that start processes are left out here."""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.check import __main__ as check
from benchmarks.check import whole
from benchmarks.check.finding import Finding, at_most
from benchmarks.check.speed import MODELS, planned_gib
from harness.errors import HarnessError, UsageError


def test_a_cpu_passes_its_sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "RESULTS", tmp_path)
    for case in ("dapo", "fipo", "adapters"):
        monkeypatch.delitem(whole.CASES, case)
    check.main(["operators", "attention", "trainer", "head", "runs", "speed", "--device", "cpu"])
    (record,) = tmp_path.iterdir()
    found = json.loads(record.read_text(encoding="utf-8"))
    assert record.name.startswith("check-")
    assert {"device", "torch", "commit"} <= set(found["machine"])
    verdicts = [one["is_right"] for section in found["sections"].values() for one in section]
    assert verdicts.count(True) > 25
    assert False not in verdicts


def wrong(_device: str) -> Iterator[Finding]:
    yield at_most("a gap", math.nan, 1.0)
    yield Finding("a figure", 1.0)
    raise RuntimeError("the device is gone")


def test_what_is_wrong_is_kept_and_ends_in_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "RESULTS", tmp_path)
    monkeypatch.setitem(check.SECTIONS, "operators", wrong)
    with pytest.raises(HarnessError, match=r"^2 of the findings above are wrong$"):
        check.main(["operators", "--device", "cpu"])
    (record,) = tmp_path.iterdir()
    *found, _ = json.loads(record.read_text(encoding="utf-8"))["sections"]["operators"]
    assert [one["is_right"] for one in found] == [False, None, False]
    assert found[-1]["value"] == "RuntimeError: the device is gone"
    late = check.run("operators", "cpu", time.monotonic())
    assert [one["what"] for one in late] == ["a gap (at most 1)", "ended early", "seconds"]


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="expected a CUDA device, found none: use --device cpu"):
        check.main([])


def test_the_plans_memory_is_of_the_update_that_is_measured() -> None:
    assert 3 < planned_gib(MODELS[0]) < planned_gib(MODELS[2]) < 100
