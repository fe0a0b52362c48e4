import json
from pathlib import Path

import pytest

from harness import Config, HarnessError, tree_of
from sweeps.endings import ending_of
from sweeps.search_spec import Limits
from sweeps.study import PlannedRun
from sweeps.trial_facts import acted, check_recorded


def run_of(folder: Path, status: object, log: str = "") -> PlannedRun:
    """A run that left this status and these last words."""
    run = PlannedRun("fipo-trial0000", 1000, Config(), folder)
    run.folder.mkdir(parents=True)
    if status is not None:
        (run.folder / "status.json").write_text(json.dumps(status), encoding="utf-8")
    run.log.parent.mkdir()
    run.log.write_text(log, encoding="utf-8")
    return run


def state(name: str, reason: str | None = None) -> dict[str, object]:
    return {"state": name, "reason": reason, "exit_code": 1, "steps_done": 3}


NAN = "HarnessError: step 3: expected finite numbers, got nan in the loss; its batch is in x; lower --lr"


@pytest.mark.parametrize(
    ("status", "log", "code", "kernel", "kind", "words"),
    [
        (state("finished"), "", 0, False, "finished", None),
        (state("preempted", "stopped by SIGTERM"), "", 75, False, "stopped", "stopped by SIGTERM"),
        (state("running"), "", -9, False, "died", "killed by signal 9"),
        (state("running"), "", -11, False, "died", "killed by signal 11"),
        (None, "", -9, False, "died", "killed by signal 9"),
        (state("running"), "", -9, True, "infeasible", "out of memory"),
        (state("failed", "OutOfMemoryError: CUDA out of memory"), "", 1, False, "infeasible", "CUDA out of memory"),
        (state("failed", "MemoryError: "), "", 1, False, "infeasible", "out of memory: MemoryError"),
        (
            state("failed", "RuntimeError: x"),
            "can't allocate memory: you tried",
            1,
            False,
            "infeasible",
            "out of memory",
        ),
        (state("failed", NAN), "", 1, False, "infeasible", "diverged: HarnessError: step 3: expected finite"),
        (
            state("failed", "GaveUp: gave up after 5 steps: none"),
            "",
            1,
            False,
            "infeasible",
            "gave up: GaveUp: gave up",
        ),
        (state("failed", "HarnessError: step 0: expected 4 groups"), "", 1, False, "failed", "expected 4 groups"),
        (None, "Traceback\nImportError: no module", 1, False, "failed", "ImportError: no module"),
        (None, "", 1, False, "failed", "exit code 1 without a word"),
        (None, "error: --lr: expected a float", 2, False, "wrong_use", "error: --lr: expected a float"),
        (
            state("preempted", "the disk is full"),
            "error: the disk is full: make room",
            1,
            False,
            "disk_full",
            "make room",
        ),
        (None, "error: the disk is full, make room: x", 1, False, "disk_full", "the disk is full"),
        ("damaged", "", -9, False, "died", "killed"),
        (state("finished"), "", -9, False, "finished", None),  # killed when all was written
        (
            state("running"),
            "error: x: process 7 on h is writing it: wait for that one, or stop it",
            2,
            False,
            "held",
            "",
        ),
        (
            state("running"),
            "error: x: its lock was lost (stolen): another process",
            1,
            False,
            "held",
            "its lock was lost",
        ),
        # what an earlier process said is not what this one died of
        (state("running"), "error: the disk is full: make room\n$ python -m harness resume x", -9, False, "died", "9"),
    ],
)
def test_how_a_run_ended(
    tmp_path: Path, status: object, log: str, code: int, kernel: bool, kind: str, words: str | None
) -> None:
    found = ending_of(run_of(tmp_path, status, log), code, kernel)
    assert found.kind == kind
    assert words is None or words in str(found.reason)


def test_a_run_that_recorded_other_settings_ends_the_search(tmp_path: Path) -> None:
    run = run_of(tmp_path, state("finished"))
    recorded = tree_of(run.config)
    path = run.folder / "config.json"
    path.write_text(json.dumps({"config": recorded | {"run": recorded["run"] | {"output_dir": "x"}}}), encoding="utf-8")
    check_recorded(run)
    path.write_text(json.dumps({"config": recorded | {"optimizer": {"lr": 1e-5}}}), encoding="utf-8")
    with pytest.raises(HarnessError, match=r"it was asked for lr 0.0003 and recorded 1e-05: the search ends"):
        check_recorded(run)


def test_the_share_of_tokens_that_a_parameter_acted_on_is_over_all_steps() -> None:
    names = ("loss/clip_fraction_low", "loss/influence_weight_at_high", "loss/influence_weight_at_low")
    lines = [
        {"ledger/trained_tokens": tokens, **dict.fromkeys(names, share)} for tokens, share in ((100, 0.1), (400, 0.5))
    ]
    lines.append({"ledger/trained_tokens": 400, **dict.fromkeys(names)})  # a step that trained on nothing
    expected = (100 * 0.1 + 300 * 0.5) / 400
    assert acted(lines, two_sided=False) == {"epsilon": expected, "fipo_clip_range": expected}
    assert acted(lines, two_sided=True)["fipo_clip_range"] == 2 * expected  # the lower bound is the range's too
    assert acted([{"ledger/trained_tokens": 0, names[0]: None}], two_sided=False) == {}


def test_limits_are_exceeded_above_0() -> None:
    facts = {"response_tokens": 30.0, "truncated_share": 0.25, "start_accuracy": 0.4, "values": [0.5, 0.1]}
    assert Limits(32.0, 0.25, 0.5).excess(facts) == {
        "response_tokens": -2.0,
        "truncated_share": 0.0,
        "collapse": pytest.approx(0.1),  # the worst seed's .1 against half of .4
    }
    assert Limits(None, None, None).excess(facts) == {}
