"""A small run that was committed with its weights is made again: nothing in this checkout has changed its numbers.

Where a change is meant to (and the CHANGELOG says so), `python -m tests.harness.reference` writes it anew.
"""

import json
import shutil
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from harness.compare.repeat import reproduce
from harness.run.environment import FINGERPRINT, differences_here
from harness.run.history import read_history
from tests.harness.reference import REFERENCE
from tests.harness.runs import ignore

pytestmark = pytest.mark.train

CLOSE = 1e-5  # of a log-probability, between machines


def drift(reference: Path, out: Path) -> list[str]:
    """What is wrong with the run made again: any bit where the fingerprint is the same, else step 0 beyond CLOSE."""
    run = read_history(reference)
    here = differences_here(run.environment, run.config)
    decisive = {name: here[name] for name in FINGERPRINT if name in here}
    divergence = reproduce(run, out, 1 if decisive else run.steps_done, ignore)
    again = read_history(out)
    if not decisive:
        return [divergence] if divergence else []
    rows, rows_again = (one.table("rollouts", 0) or [] for one in (run, again))
    prompts, prompts_again = ([row["prompt"] for row in each if row["round"] == 0] for each in (rows, rows_again))
    assert prompts == prompts_again != []
    trained = {(row["prompt_id"], row["sample"]): row for row in rows_again if row["trained"]}
    pairs = [(row, trained.get((row["prompt_id"], row["sample"]))) for row in rows if row["trained"]]
    apart = max(gap for row, same in pairs if same for gap in gaps(row, same))
    return [f"log-probabilities of step 0 are {apart:.2g} apart"] if apart > CLOSE else []


def gaps(row: dict[str, Any], again: dict[str, Any]) -> list[float]:
    """How far apart a response's old log-probabilities are, up to the first token that differs."""
    pairs = zip(row["tokens"], again["tokens"], row["old_logprobs"], again["old_logprobs"], strict=False)
    return [abs(ours - theirs) for _, _, ours, theirs in takewhile(lambda pair: pair[0] == pair[1], pairs)]


def test_the_reference_run_has_not_drifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = read_history(REFERENCE)
    here = differences_here(run.environment, run.config)
    found = drift(REFERENCE, tmp_path / "again")
    if any(name in here for name in FINGERPRINT):
        with capsys.disabled():
            print(f"\nNOTE: this machine is another, so the reference run was checked at step 0 only, to {CLOSE:g}:")
            print("\n".join(f"  {name}: {then} then, {now} here" for name, (then, now) in here.items()))
    assert found == []


def edited(tmp_path: Path, name: str, value: object) -> Path:
    """A copy of the reference run that says it was made elsewhere."""
    copy = tmp_path / "reference"
    shutil.copytree(REFERENCE, copy)
    environment = json.loads((copy / "environment.json").read_text(encoding="utf-8"))
    (copy / "environment.json").write_text(json.dumps(environment | {name: value}), encoding="utf-8")
    return copy


def test_on_another_machine_its_step_0_is_checked(tmp_path: Path) -> None:
    assert drift(edited(tmp_path, "cpu", "another"), tmp_path / "again") == []
