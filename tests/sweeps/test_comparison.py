import argparse
import hashlib
import os
import signal
import subprocess
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

from harness import Stopped, command, resolve
from sweeps.comparison import Comparison, compare, going_on, own_slots
from sweeps.study.arms import arms_of, load_family
from sweeps.study.folder import PlannedRun, locked
from sweeps.workers.attempts import Attempt
from sweeps.workers.pool import Pool, usable_cores
from tests.harness.command_line import Outcome
from tests.sweeps.family_files import written
from tests.sweeps.processes import processes_that_name
from tests.sweeps.search.searching import controller, preset, read, started
from tests.waiting import wait_until

pytestmark = pytest.mark.train

FAMILY = """
claims = "CLAIMS"
description = "two losses, an arm whose batches cannot be filled, and one that diverges"
allowed = [
    "loss_type", "averaging", "dynamic_sampling", "max_sampling_rounds", "unfilled", "max_response_tokens",
    "fipo_filter_in_log_space", "fipo_decay_rate", "fipo_clip_range", "fipo_clip_high_only", "fipo_safety_threshold",
    "lr",
]
[arms.grpo]
loss_type = "grpo"
[arms.fipo]
loss_type = "fipo"
[controls.broken]
like = "grpo"
dynamic_sampling = true
max_sampling_rounds = 1
unfilled = "stop"
max_response_tokens = 2
[controls.exploded]
like = "grpo"
lr = 3e37
"""
CLAIMS = """
title = "for a test"
source = "a test"
[[claim]]
id = "gains"
text = "FIPO gains"
source = "a test"
role = "primary"
kind = "superior"
arm = "fipo"
baseline = "grpo"
metric = "auc"
margin = 0.01
"""
FINISHED = ["grpo-seed0", "fipo-seed0", "grpo-seed1", "fipo-seed1"]


class Compared(NamedTuple):
    """A study in which one run of six failed and one diverged, and how to start it again."""

    study: Path
    arguments: list[str]
    first: Outcome


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def compared(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """The comparison after its first start."""
    folder = tmp_path_factory.mktemp("compare")
    arguments = ["compare", "--losses", "grpo,fipo", "--controls", "broken:1,exploded:1"]
    arguments += ["--seeds", "2", "--slots", "2"]
    (folder / "mine.toml").write_text(CLAIMS, encoding="utf-8")
    family = FAMILY.replace("CLAIMS", str(folder / "mine.toml"))
    arguments += ["--family", written(folder, family), "--preset", str(preset(folder, model_folder))]
    arguments += ["--study", str(folder / "study")]
    return Compared(folder / "study", arguments, started(arguments))


def test_a_failing_run_is_shown_and_the_rest_goes_on(compared: Compared) -> None:
    code, printed, errors = compared.first
    assert code == 1
    assert errors == [
        "error: 1 of 6 runs failed; the others are complete. Start again to retry them",
    ]
    text = "".join(printed)
    assert "broken-seed0: FAILED: error: step 0: expected 4 groups with both right and wrong answers, got 0" in text
    states = {path.parent.name: read(path)["state"] for path in compared.study.glob("runs/*/status.json")}
    assert states == {**dict.fromkeys(FINISHED, "finished"), "broken-seed0": "failed", "exploded-seed0": "failed"}
    assert "exploded-seed0: DIVERGED: error: step 0: expected finite numbers" in text
    assert "diverged, which is a result and counts as one: exploded-seed0" in text
    assert all(sum(line.startswith(f"{name}: accuracy ") for line in printed) == 1 for name in FINISHED)
    assert processes_that_name(str(compared.study)) == []


def test_what_differs_and_the_plan_are_printed_first(compared: Compared) -> None:
    lines = compared.first.printed
    table = next(
        place for place, line in enumerate(lines) if line.startswith("fipo differs from grpo in loss_type fipo")
    )
    plan = next(place for place, line in enumerate(lines) if line.startswith("2. training: 6 runs of 1 steps, 2 at"))
    first_run = next(place for place, line in enumerate(lines) if "-seed0: " in line)
    assert table < plan < first_run
    assert any(
        line.startswith("broken differs from grpo in ") and "unfilled stop" in line for line in lines[table:plan]
    )


def test_study_file_follows_the_contract(compared: Compared) -> None:
    study = read(compared.study / "study.json")
    assert study["schema_version"] == 1
    assert (study["family"], study["primary_outcome"]) == ("own", "auc")
    assert study["preset"] == compared.arguments[compared.arguments.index("--preset") + 1]
    arms = {arm["name"]: (arm["loss_type"], arm["control"], arm["seeds"]) for arm in study["arms"]}
    assert arms == {
        "grpo": ("grpo", "none", [0, 1]),
        "fipo": ("fipo", "none", [0, 1]),
        "broken": ("grpo", "broken", [0]),
        "exploded": ("grpo", "exploded", [0]),
    }
    assert study["arms"][1]["settings"] == {"loss_type": "fipo"}
    for difference in study["differences"]:
        assert list(difference) == ["field", "values", "allowed"]
        assert list(difference["values"]) == ["grpo", "fipo", "broken", "exploded"]
        assert difference["allowed"]
    assert study["confounds"] == []


def test_runs_have_the_settings_that_were_planned(compared: Compared) -> None:
    for name in FINISHED:
        recorded = read(compared.study / "runs" / name / "config.json")["config"]
        planned = read(compared.study / "configs" / f"{name}.json")
        assert recorded["run"].pop("output_dir") == str(compared.study / "runs" / name)
        assert planned["run"].pop("output_dir") is None
        assert recorded == planned
        assert f"{recorded['loss']['loss_type']}-seed{recorded['run']['seed']}" == name


def test_another_setting_for_the_same_study_is_refused(compared: Compared) -> None:
    before = contents(compared.study)
    code, printed, errors = started([*compared.arguments, "--weight_decay", "0.5"])
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "arm 'grpo' has other settings" in errors[0]
    assert "--study" in errors[0]
    assert "--output_dir" not in errors[0]
    assert contents(compared.study) == before


def test_started_again_only_what_failed_runs(compared: Compared) -> None:
    before = contents(compared.study / "runs")
    code, printed, _ = started(compared.arguments)
    assert code == 1
    assert any(line.startswith("2. training: 1 runs of 1 steps (5 finished before and skipped)") for line in printed)
    after = contents(compared.study / "runs")
    finished = [name for name in before if not name.startswith("broken")]  # what diverged is data, and stays
    assert {name: after[name] for name in finished} == {name: before[name] for name in finished}
    earlier = {name: content for name, content in before.items() if name.startswith("broken-seed0/")}
    kept = contents(compared.study / "superseded" / "broken-seed0-1")
    assert {f"broken-seed0/{name}": content for name, content in kept.items()} == earlier
    assert read(compared.study / "runs" / "broken-seed0" / "status.json")["state"] == "failed"


def test_claims_are_fixed_before_the_runs(compared: Compared) -> None:
    study = read(compared.study / "study.json")
    assert (compared.study / "claims.toml").read_text() == CLAIMS
    assert study["claims"]["name"] == "mine"  # the family's, since no flag names others
    assert study["claims"]["sha256"] == hashlib.sha256(CLAIMS.encode()).hexdigest()
    began = [read(compared.study / "runs" / name / "environment.json")["started_at"] for name in FINISHED]
    assert study["claims"]["fixed_at"] <= min(began)


def test_other_claims_for_a_study_that_has_begun_are_refused(compared: Compared, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(CLAIMS.replace("margin = 0.01", "margin = 0.0"))
    before = contents(compared.study)
    for other in (str(tmp_path / "mine.toml"), "none"):
        code, printed, errors = started([*compared.arguments, "--claims", other])
        assert (code, printed, len(errors)) == (2, [], 1)
        assert "it was begun with mine, and claims are fixed before the runs start" in errors[0]
    assert contents(compared.study) == before


class KillsFirst(Pool):
    """Its first run is killed as it begins."""

    has_killed = False

    def start(self, run: PlannedRun) -> Attempt:
        attempt = super().start(run)
        if not self.has_killed:
            self.has_killed = True
            os.killpg(attempt.session.process.pid, signal.SIGKILL)
        return attempt


def test_a_run_that_is_killed_is_started_again(model_folder: str, tmp_path: Path) -> None:
    family = load_family("controlled")
    arms = arms_of(family, {"dapo": 1}, str(preset(tmp_path, model_folder)), {})
    study = tmp_path / "study"
    study.mkdir()
    with redirect_stdout(StringIO()) as printed, KillsFirst(study, [()]) as pool:
        compare(Comparison(study, family, "preset.toml", arms), pool)
    assert (
        "dapo-seed0: will be started again: killed by SIGKILL (out of memory, if nobody did it)" in printed.getvalue()
    )
    assert "FAILED" not in printed.getvalue()
    assert read(study / "runs/dapo-seed0/status.json")["state"] == "finished"
    assert (study / "logs/dapo-seed0.log").read_text().count("$ python -m harness ") == 2


def test_a_study_that_is_being_run_is_refused(compared: Compared) -> None:
    with locked(compared.study):
        code, printed, errors = started(list(compared.arguments))
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "another process" in errors[0]


def test_runs_on_gpus_have_the_machine_to_themselves() -> None:
    assert own_slots(resolve({"threads": 1}, "demo")) == usable_cores()
    assert own_slots(resolve({"threads": 2 * usable_cores()}, "demo")) == 1
    assert own_slots(resolve({}, "one-gpu/fipo-0.5b")) == own_slots(resolve({}, "one-node/fipo-7b")) == 1


def test_a_stopped_study_goes_on_with_the_command_that_it_prints(model_folder: str, tmp_path: Path) -> None:
    study = tmp_path / "study"
    words = ["compare", "--losses", "dapo", "--seeds", "1", "--preset", str(preset(tmp_path, model_folder, steps=40))]
    words += ["--study", str(study)]
    log = tmp_path / "log"
    process = controller(words, log)
    metrics = study / "runs" / "dapo-seed0" / "metrics.jsonl"
    wait_until(lambda: metrics.is_file() or process.poll() is not None, "no step")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75, log.read_text()
    again = command("sweeps", *words)
    assert log.read_text().endswith(f"stopped; resume with: {again}\n")
    assert processes_that_name(str(study)) == []
    subprocess.run(again, shell=True, check=True, capture_output=True)
    assert read(study / "runs/dapo-seed0/status.json")["state"] == "finished"


def test_a_study_without_a_name_of_its_own_is_named_when_it_stops(tmp_path: Path) -> None:
    options = argparse.Namespace(arguments=["compare", "--seeds", "2"], tracking_uri=None)
    with pytest.raises(Stopped, match=f"sweeps compare --seeds 2 --study {tmp_path}$"), going_on(tmp_path, options):
        raise KeyboardInterrupt
