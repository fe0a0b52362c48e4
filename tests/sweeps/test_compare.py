import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import run_command
from sweeps.__main__ import main
from sweeps.study import locked
from tests.harness.command_line import Outcome
from tests.harness.tiny import small_settings
from tests.sweeps.family_files import written
from tests.sweeps.processes import processes_that_name

pytestmark = pytest.mark.train

FAMILY = """
description = "two losses, and one arm whose batches cannot be filled"
allowed = [
    "loss_type", "averaging", "dynamic_sampling", "max_sampling_rounds", "unfilled", "max_response_tokens",
    "fipo_decay_rate", "fipo_clip_range", "fipo_clip_high_only", "fipo_safety_threshold", "fipo_filter_in_log_space",
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
"""
FINISHED = ["grpo-seed0", "fipo-seed0", "grpo-seed1", "fipo-seed1"]


class Compared(NamedTuple):
    """A study in which one run of five failed, and how to start it again."""

    study: Path
    arguments: list[str]
    first: Outcome


def started(arguments: list[str]) -> Outcome:
    """What the command left; its lines may be broken at 140 characters."""
    with redirect_stdout(StringIO()) as printed, redirect_stderr(StringIO()) as errors:
        code = run_command(lambda given: main(list(given)), arguments)
    return Outcome(code, printed.getvalue().splitlines(), errors.getvalue().splitlines())


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def compared(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """The comparison after its first start."""
    folder = tmp_path_factory.mktemp("compare")
    lines = [f"{name} = {json.dumps(value)}" for name, value in small_settings(model_folder, steps=1).items()]
    (folder / "preset.toml").write_text("\n".join(lines), encoding="utf-8")
    arguments = ["compare", "--losses", "grpo,fipo", "--controls", "broken:1", "--seeds", "2", "--slots", "2"]
    arguments += ["--family", written(folder, FAMILY), "--preset", str(folder / "preset.toml")]
    arguments += ["--study", str(folder / "study")]
    return Compared(folder / "study", arguments, started(arguments))


def test_a_failing_run_is_shown_and_the_rest_goes_on(compared: Compared) -> None:
    code, printed, errors = compared.first
    assert code == 1
    assert errors == [
        "error: 1 of 5 runs failed; the others are complete. Start again to retry them",
    ]
    text = "".join(printed)
    assert "broken-seed0: FAILED: error: step 0: expected 4 groups with both right and wrong answers, got 0" in text
    states = {path.parent.name: read(path)["state"] for path in compared.study.glob("runs/*/status.json")}
    assert states == {**dict.fromkeys(FINISHED, "finished"), "broken-seed0": "failed"}
    assert all(sum(line.startswith(f"{name}: accuracy ") for line in printed) == 1 for name in FINISHED)


def test_what_differs_and_the_plan_are_printed_first(compared: Compared) -> None:
    lines = compared.first.printed
    table = next(place for place, line in enumerate(lines) if "what differs between the arms" in line)
    plan = next(place for place, line in enumerate(lines) if line.startswith("2. training: 5 runs of 1 steps, 2 at"))
    first_run = next(place for place, line in enumerate(lines) if "-seed0: " in line)
    assert table < plan < first_run
    assert {"loss_type", "averaging", "dynamic_sampling", "unfilled"} <= {
        word for line in lines[table:plan] for word in line.split()
    }


def test_study_file_follows_the_contract(compared: Compared) -> None:
    study = read(compared.study / "study.json")
    assert study["schema_version"] == 1
    assert (study["family"], study["primary_outcome"]) == ("own", "auc")
    assert study["preset"] == compared.arguments[compared.arguments.index("--preset") + 1]
    arms = {arm["name"]: (arm["loss_type"], arm["control"], arm["seeds"]) for arm in study["arms"]}
    assert arms == {
        "grpo": ("grpo", "none", [0, 1]),
        "fipo": ("fipo", "none", [0, 1]),
        "broken": ("grpo", "none", [0]),
    }
    assert study["arms"][1]["settings"] == {"loss_type": "fipo"}
    for difference in study["differences"]:
        assert list(difference) == ["field", "values", "allowed"]
        assert list(difference["values"]) == ["grpo", "fipo", "broken"]
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


def test_arms_share_the_first_rounds_prompts(compared: Compared) -> None:
    environments = [read(compared.study / "runs" / name / "environment.json") for name in FINISHED]
    assert len({one["model_sha256"] for one in environments}) == 1
    assert len({one["eval_prompts_sha256"] for one in environments}) == 1


def test_another_setting_for_the_same_study_is_refused(compared: Compared) -> None:
    before = contents(compared.study)
    code, printed, errors = started([*compared.arguments, "--lr", "0.5"])
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "arm 'grpo' has other settings" in errors[0]
    assert contents(compared.study) == before


def test_the_refusal_names_the_flag_of_this_command(compared: Compared) -> None:
    (error,) = started([*compared.arguments, "--lr", "0.5"]).errors
    assert "--study" in error
    assert "--output_dir" not in error


def test_started_again_only_what_failed_runs(compared: Compared) -> None:
    before = contents(compared.study / "runs")
    code, printed, _ = started(compared.arguments)
    assert code == 1
    assert any(line.startswith("2. training: 1 runs of 1 steps (4 finished before and skipped)") for line in printed)
    after = contents(compared.study / "runs")
    finished = [name for name in before if not name.startswith("broken")]
    assert {name: after[name] for name in finished} == {name: before[name] for name in finished}
    earlier = {name: content for name, content in before.items() if name.startswith("broken-seed0/")}
    kept = contents(compared.study / "superseded" / "broken-seed0-1")
    assert {f"broken-seed0/{name}": content for name, content in kept.items()} == earlier
    assert read(compared.study / "runs" / "broken-seed0" / "status.json")["state"] == "failed"


def test_no_process_is_left_behind(compared: Compared) -> None:
    assert processes_that_name(str(compared.study)) == []


def test_a_study_that_is_being_run_is_refused(compared: Compared) -> None:
    with locked(compared.study):
        code, printed, errors = started(list(compared.arguments))
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "another process" in errors[0]
