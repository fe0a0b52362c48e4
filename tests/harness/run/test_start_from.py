"""A run that starts from a checkpoint of another: --start_from."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import main
from harness.compare.repeat import reproduce, write_checkpoint
from harness.config.schema import Config
from harness.errors import Stopped
from harness.loop import train
from harness.resume import resume
from harness.run.folder import files_of
from harness.run.history import read_history
from harness.run.record import RunFolder
from tests.harness import runs
from tests.harness.command_line import outcome
from tests.harness.tiny import SCAFFOLD, small_config, small_flags

pytestmark = pytest.mark.train

OWN = ("time/", "ledger/", "noise/")  # of the run itself, not of its place


@pytest.fixture(scope="module")
def trunk(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Four steps of DAPO, with no checkpoint left in between."""
    return runs.trained(small_config(model_folder, **settings()), tmp_path_factory.mktemp("runs") / "dapo-seed3")


def settings(**changes: Any) -> dict[str, Any]:
    """DAPO for four steps with a warm-up that has not ended after two."""
    return {
        **SCAFFOLD,
        "loss_type": "dapo",
        "steps": 4,
        "warmup_steps": 3,
        "seed": 3,
        "control": "random_reward",
    } | changes


@pytest.fixture(scope="module")
def state(trunk: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trunk after two steps, reached by repeating its updates."""
    out = tmp_path_factory.mktemp("states") / "two"
    said = write_checkpoint(read_history(trunk.path), 2, out)
    assert said == "2 of 2 steps repeated, old log-probabilities within 0 of those recorded"
    return out


def forked(state: Path, model: str, **changes: Any) -> Config:
    return small_config(model, **settings(start_from=str(state), steps=2) | changes)


def steps_of(run: RunFolder) -> list[dict[str, Any]]:
    """The metrics of a run's steps, without those of its own."""
    return [
        {key: value for key, value in line.items() if not key.startswith((*OWN, "step"))} for line in runs.metrics(run)
    ]


def drawn(run: RunFolder, first: int) -> list[dict[str, Any]]:
    """Its rollouts from a step on, with steps counted from there."""
    return [row | {"step": row["step"] - first} for row in runs.rows(run, "rollouts") if row["step"] >= first]


def test_the_same_loss_continues_as_the_run_did_and_another_begins_with_its_rollouts(
    trunk: RunFolder, state: Path, model_folder: str, tmp_path: Path
) -> None:
    fork = runs.trained(forked(state, model_folder), tmp_path / "fork")
    assert drawn(fork, 0) == drawn(trunk, 2)
    assert steps_of(fork) == steps_of(trunk)[2:]
    assert runs.weights(fork) == runs.weights(trunk)
    asked = [
        [row["text"] for row in runs.rows(run, "evals") if row["step"] == last] for run, last in ((fork, 2), (trunk, 4))
    ]
    assert asked[0] == asked[1]
    other = runs.trained(forked(state, model_folder, steps=1, loss_type="fipo"), tmp_path / "other")
    sampled = [
        [(row["prompt_id"], row["tokens"], row["old_logprobs"]) for row in drawn(run, 0)] for run in (fork, other)
    ]
    assert sampled[0][: len(sampled[1])] == sampled[1] != []
    assert runs.weights(other) != runs.weights(fork)


def test_a_fork_of_a_fork_continues_as_the_run_did(
    trunk: RunFolder, state: Path, model_folder: str, tmp_path: Path
) -> None:
    fork = runs.trained(forked(state, model_folder, steps=1), tmp_path / "fork")
    write_checkpoint(read_history(fork.path), 1, tmp_path / "three")
    again = runs.trained(forked(tmp_path / "three", model_folder, steps=1), tmp_path / "again")
    assert steps_of(again) == steps_of(trunk)[3:]
    assert runs.weights(again) == runs.weights(trunk)


def test_another_seed_draws_otherwise(trunk: RunFolder, state: Path, model_folder: str, tmp_path: Path) -> None:
    fork = runs.trained(forked(state, model_folder, seed=4, steps=1), tmp_path / "fork")
    assert drawn(fork, 0)[0]["prompt_id"] != drawn(trunk, 2)[0]["prompt_id"]


def test_a_fork_is_resumed_and_reproduced(state: Path, model_folder: str, tmp_path: Path) -> None:
    config = forked(state, model_folder, steps=3, checkpoint_every=1)
    whole = runs.trained(config, tmp_path / "whole")

    def fail(metrics: Any) -> None:
        if metrics["step"] == 1:
            raise KeyboardInterrupt

    for name, gone in (("later", False), ("from its start", True)):
        with pytest.raises(Stopped, match="interrupted within a step; resume with: "):
            train(config, tmp_path / name, fail)
        if gone:
            for folder in (tmp_path / name / "checkpoints").glob("step_*"):
                shutil.rmtree(folder)
        assert runs.weights(resume(tmp_path / name, runs.ignore)) == runs.weights(whole)
    assert reproduce(read_history(whole.path), tmp_path / "again", 3, runs.ignore) is None


def test_another_checkpoint_in_its_place_is_refused(
    trunk: RunFolder, state: Path, model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(state, tmp_path / "state"))
    fork = runs.trained(forked(moved, model_folder, steps=1), tmp_path / "fork")
    shutil.rmtree(moved)
    write_checkpoint(read_history(trunk.path), 1, moved)
    refused = outcome(main, ["reproduce", str(fork.path), "--output_dir", str(tmp_path / "again")], capsys)
    assert refused.exit_code == 2
    assert "expected the checkpoint that the run recorded (start_from_sha256)" in refused.errors[0]
    assert not (tmp_path / "again").exists()


def test_the_state_is_the_checkpoint_where_there_is_one(model_folder: str, tmp_path: Path) -> None:
    config = small_config(model_folder, **settings(steps=3, checkpoint_every=2, give_up_after=None))

    def stop(metrics: Any) -> None:
        if metrics["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(Stopped):
        train(config, tmp_path / "run", stop)
    kept = tmp_path / "run" / "checkpoints" / "step_000002"
    assert "0 of 2 steps repeated" in write_checkpoint(read_history(tmp_path / "run"), 2, tmp_path / "loaded")
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "elsewhere")
    assert "2 of 2 steps repeated" in write_checkpoint(read_history(tmp_path / "run"), 2, tmp_path / "repeated")
    for name in ("model.safetensors", "optimizer.safetensors"):
        recorded = (tmp_path / "elsewhere" / kept.name / name).read_bytes()
        assert (tmp_path / "loaded" / name).read_bytes() == recorded
        assert (tmp_path / "repeated" / name).read_bytes() == recorded


def test_wrong_use_is_one_line_and_writes_nothing(
    trunk: RunFolder, state: Path, model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", *small_flags(model_folder, output_dir=tmp_path / "new"), "--start_from", state]
    bare = Path(shutil.copytree(trunk.path, tmp_path / "bare"))
    shutil.rmtree(bare / "rollouts")
    out = ["--output_dir", str(tmp_path / "new")]
    for arguments, said in (
        ([*train, "--beta", 0.1], "got float32, none, torch, 0.1: set"),
        ([*train, "--lora_rank", 4], "--start_from needs --dtype float32, --lora_rank none"),
        ([*train[:-1], tmp_path / "none"], "--start_from"),
        ([*train[:-1], trunk.path / "checkpoints" / "final"], "expected state.json"),
        (["checkpoint", trunk.path, "--step", 5, *out], "expected a step among the 4"),
        (["checkpoint", bare, "--step", 2, *out], "got none of step 0"),
        (["checkpoint", trunk.path, "--step", 2, "--output_dir", state], "expected a new or empty folder"),
    ):
        refused = outcome(main, arguments, capsys)
        assert (refused.exit_code, len(refused.errors)) == (2, 1), refused.errors
        assert said in refused.errors[0]
    assert not (tmp_path / "new").exists()
    assert set(files_of(state)) >= {"state.json", "optimizer.safetensors", "model.safetensors"}
