import json
import math
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from harness.__main__ import main
from harness.errors import Stopped
from harness.loop import train
from harness.run.record import RunFolder
from tests.harness import runs
from tests.harness.backends.pairings import stop_after
from tests.harness.command_line import Outcome, outcome
from tests.harness.tiny import SCAFFOLD, as_tiny, small_config

pytestmark = pytest.mark.train

Reproduce = Callable[..., Outcome]
Tamper = Callable[[Path], None]


@pytest.fixture(scope="module", autouse=True)
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The model `tiny` is one that is made in seconds."""
    with as_tiny(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the model `tiny`."""
    return runs.trained(small_config(loss_type="fipo", **SCAFFOLD), tmp_path_factory.mktemp("runs") / "original").path


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    """The same run at another place, to tamper with."""
    return Path(shutil.copytree(original, tmp_path / "copied"))


@pytest.fixture
def reproduce(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Reproduce:
    """The command, into the folder `again`."""
    return lambda run, *flags: outcome(main, ["reproduce", run, *flags, "--output_dir", tmp_path / "again"], capsys)


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(runs.read_json(path) | changes), encoding="utf-8")


def changed_weights(file: Path) -> None:
    """One of the weights is another."""
    tensors = load_file(file)
    tensors["model.norm.weight"][3] += 0.5
    save_file(tensors, file, {"format": "pt"})


def test_a_run_is_identical_again_from_its_folder_alone(
    original: Path, copied: Path, reproduce: Reproduce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIPO_HARNESS_CACHE", str(tmp_path / "emptied"))
    code, printed, errors = reproduce(copied)
    assert (code, errors) == (0, [])
    assert printed[-1].startswith("identical: metrics, rollouts, evaluations, final weights of 2 steps: ")
    first, second = RunFolder(original), RunFolder(tmp_path / "again")
    assert runs.timeless(first) == runs.timeless(second)
    assert runs.weights(first) == runs.weights(second)
    for kind in ("rollouts", "tokens", "evals"):
        assert runs.rows(first, kind) == runs.rows(second, kind)
    assert not (tmp_path / "emptied").exists()  # the kept initial weights were taken


def test_kept_weights_that_are_damaged_are_made_again(copied: Path, reproduce: Reproduce) -> None:
    (copied / "checkpoints" / "initial" / "model.safetensors").write_bytes(b"")
    code, printed, _ = reproduce(copied)
    assert code == 0
    assert [line for line in printed if line.endswith("the initial weights are rebuilt")]


def test_a_model_folder_whose_weights_changed_is_refused(
    model_folder: str, reproduce: Reproduce, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "model"))
    run = runs.trained(small_config(str(model), steps=1), tmp_path / "run").path
    assert reproduce(run).exit_code == 0
    shutil.rmtree(tmp_path / "again")
    changed_weights(model / "model.safetensors")
    code, _, errors = reproduce(run)
    assert (code, len(errors)) == (2, 1)
    assert f"got others from --model {model}" in errors[0]
    assert not (tmp_path / "again").exists()


def test_the_first_steps_can_be_compared_alone(copied: Path, reproduce: Reproduce, tmp_path: Path) -> None:
    edit_line(copied, 1, "loss/token_loss", 9.0)  # not looked at
    code, printed, errors = reproduce(copied, "--steps", 1)
    assert (code, errors) == (0, [])
    assert printed[-1].startswith("identical: metrics, rollouts, evaluations of 1 steps: ")
    assert len(runs.metrics(RunFolder(tmp_path / "again"))) == 1


def test_steps_that_the_run_has_not_are_refused(original: Path, reproduce: Reproduce) -> None:
    for steps in (0, -1, 3):
        code, printed, errors = reproduce(original, "--steps", steps)
        assert (code, printed, len(errors)) == (2, [], 1)
        assert f"--steps: expected 1 to the 2 steps that {original} has done, got {steps}" in errors[0]


def test_an_unfinished_run_is_compared_as_far_as_it_went(reproduce: Reproduce, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(small_config(loss_type="dapo", steps=4), tmp_path / "run", stop_after(2))
    code, printed, errors = reproduce(tmp_path / "run")
    assert (code, errors) == (0, [])
    assert printed[-1].startswith("identical: metrics, rollouts, evaluations of 2 steps: ")


def edit_line(run: Path, step: int, key: str, value: object) -> None:
    lines = runs.metrics(RunFolder(run))
    lines[step][key] = value
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def edit_row(run: Path, table: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first trained row."""
    content = pq.read_table(run / table)
    rows = content.to_pylist()
    change(next(row for row in rows if row.get("trained", True)))
    pq.write_table(type(content).from_pylist(rows, schema=content.schema), run / table)


def in_row(table: str, **changes: Any) -> Tamper:
    return lambda run: edit_row(run, table, lambda row: row.update(changes))


TAMPERS: dict[str, tuple[Tamper, str]] = {
    "metric": (lambda run: edit_line(run, 1, "loss/token_loss", 9.0), "step 1, updates: loss/token_loss 9 and "),
    "token": (
        lambda run: edit_row(run, "rollouts/step_000001.parquet", lambda row: row["tokens"].__setitem__(1, 0)),
        "step 1, tokens: prompt PROMPT, sample SAMPLE: tokens[1] 0 and ",
    ),
    "reward": (in_row("rollouts/step_000001.parquet", reward=9.0), "step 1, rewards: prompt "),
    "weight": (in_row("rollouts/step_000000.parquet", influence_weight=9.0), "step 0, influence weights: prompt "),
    "answer": (in_row("evals/step_000002.parquet", text="#nine"), "step 2, evaluation: prompt "),
    "final": (
        lambda run: changed_weights(run / "checkpoints" / "final" / "model.safetensors"),
        "after the last step, final weights: model.norm.weight differs by up to 0.5",
    ),
}


@pytest.mark.parametrize("name", TAMPERS)
def test_what_was_tampered_with_is_found(copied: Path, reproduce: Reproduce, name: str) -> None:
    tamper, found = TAMPERS[name]
    row = next(row for row in pq.read_table(copied / "rollouts/step_000001.parquet").to_pylist() if row["trained"])
    tamper(copied)
    runs.record_again(copied)
    code, printed, errors = reproduce(copied)
    assert (code, len(errors)) == (1, 1)
    assert errors[0].startswith(f"error: {copied} was not reproduced: ")
    (difference,) = [line for line in printed if line.startswith("first difference: ")]
    found = found.replace("PROMPT", row["prompt_id"]).replace("SAMPLE", str(row["sample"]))
    assert difference.startswith(f"first difference: {found}")


@pytest.mark.parametrize(
    ("command", "name"),
    [*product(("reproduce", "diff"), ("token", "answer", "final")), ("evaluate", "final")],
)
def test_what_is_not_what_was_written_is_refused_before_anything_starts(
    original: Path, copied: Path, command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TAMPERS[name][0](copied)
    more = [original] if command == "diff" else ["--output_dir", tmp_path / "new"]
    code, printed, errors = outcome(main, [command, copied, *more], capsys)
    assert (code, printed, len(errors)) == (2, [], 1)
    assert "has changed since it was written" in errors[0]
    assert not (tmp_path / "new").exists()


def test_what_differs_in_the_environment_is_said(original: Path, copied: Path, reproduce: Reproduce) -> None:
    here = runs.read_json(original / "environment.json")
    changes = {"commit": "0" * 40, "cpu": "an abacus", "threads": 64, "packages": here["packages"] | {"torch": "0.1"}}
    edited(copied / "environment.json", **changes)
    code, printed, errors = reproduce(copied, "--steps", 1)
    assert (code, errors) == (0, [])
    assert {line for line in printed if line.endswith(" here")} >= {
        f"cpu: 'an abacus' in the run, {here['cpu']!r} here",
        f"threads: 64 in the run, {here['threads']} here",
        f"packages.torch: '0.1' in the run, {here['packages']['torch']!r} here",
        f"commit: '{'0' * 40}' in the run, {here['commit']!r} here",
    }


@pytest.mark.parametrize("packages", [None, [], "torch 2", {}])
def test_a_damaged_list_of_packages_is_one_that_names_none(
    original: Path, copied: Path, reproduce: Reproduce, capsys: pytest.CaptureFixture[str], packages: Any
) -> None:
    here = runs.read_json(original / "environment.json")["packages"]["torch"]
    edited(copied / "environment.json", packages=packages)
    assert f"packages.torch: None in the run, {here!r} here" in reproduce(copied, "--steps", 1).printed
    compared = outcome(main, ["diff", copied, original], capsys)
    assert f"  packages.torch: None | {here!r}" in compared.printed


def test_what_may_explain_another_result_is_named(copied: Path, reproduce: Reproduce) -> None:
    TAMPERS["metric"][0](copied)
    edited(copied / "environment.json", gpu="NVIDIA H200", nccl="2.27.5", commit="0" * 40)
    assert reproduce(copied).errors[0].endswith("again; another gpu, nccl may explain it")


def test_nothing_is_claimed_of_what_the_run_has_lost(copied: Path, reproduce: Reproduce) -> None:
    (copied / "rollouts" / "step_000001.parquet").unlink()
    (copied / "evals" / "step_000001.parquet").unlink()
    shutil.rmtree(copied / "checkpoints" / "final")
    code, printed, _ = reproduce(copied)
    assert code == 0
    assert printed[-1].startswith("identical: metrics of 2 steps: ")
    assert printed[-2] == (
        "not compared, since not both runs have them: rollouts of step 1; evaluations of step 1; final weights"
    )


def test_a_run_whose_policy_went_astray_is_identical_again(reproduce: Reproduce, tmp_path: Path) -> None:
    config = small_config(loss_type="dapo", lr=1e30, skip_nonfinite=100)
    runs.trained(config, tmp_path / "run")
    rows = runs.rows(RunFolder(tmp_path / "run"), "rollouts")
    assert any(math.isnan(value) for row in rows for value in row["old_logprobs"])
    assert reproduce(tmp_path / "run").exit_code == 0
