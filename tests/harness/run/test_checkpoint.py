"""A checkpoint whose files are whole, but do not fit each other or the run, is refused in one line."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from harness.algorithm.noise import Noise
from harness.algorithm.state import begin
from harness.errors import HarnessError
from harness.files import Mark
from harness.run.checkpoint import load_checkpoint, read_state, save_state
from harness.run.tiny_model import fresh_policy
from tests.harness.tiny import small_config

CONFIG = small_config(loss_type="dapo")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A run after its first update."""
    training = begin(CONFIG, fresh_policy(0), None)
    for parameter in training.policy.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    training.updater.backend.optimizer.step()
    training.updater.backend.schedule.step()
    training.steps_done, training.noise = 1, Noise(0.0, None)
    save_state(tmp_path / "step_000001", training, Mark(12, "0" * 64), Mark(0, "1" * 64))
    return tmp_path / "step_000001"


def refusal(checkpoint: Path, name: str, content: bytes) -> str:
    """What loading says where the file holds this and the manifest agrees."""
    (checkpoint / name).write_bytes(content)
    manifest = json.loads((checkpoint / "manifest.json").read_bytes())
    manifest[name] = hashlib.sha256(content).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(HarnessError) as raised:
        load_checkpoint(checkpoint, read_state(checkpoint), CONFIG, None)
    return str(raised.value)


@pytest.mark.parametrize(
    "more",
    [
        {"nothing/exp_avg": torch.zeros(1)},
        {"model.norm.weight/exp": torch.zeros(64)},
        {"model.norm.weight/exp_avg": torch.zeros(3)},
        None,
    ],
    ids=["another parameter's", "another moment", "another shape", "none at all"],
)
def test_moments_that_do_not_fit_the_model(checkpoint: Path, more: dict[str, torch.Tensor] | None) -> None:
    tensors = {} if more is None else load_file(checkpoint / "optimizer.safetensors") | more
    assert "of each parameter, got others" in refusal(checkpoint, "optimizer.safetensors", save(tensors))


@pytest.mark.parametrize(
    "changes",
    [{"schedule": {"_last_lr": []}}, {"steps_done": -1}, {"steps_done": "1"}, {"ledger": {"updates": 2}}, {"noise": 3}],
    ids=str,
)
def test_a_state_that_does_not_fit_the_run(checkpoint: Path, changes: dict[str, Any]) -> None:
    state = json.loads((checkpoint / "state.json").read_bytes()) | changes
    assert "\n" not in refusal(checkpoint, "state.json", json.dumps(state).encode())


@pytest.mark.parametrize("content", [b"null", b"[]"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_that_is_none(checkpoint: Path, name: str, content: bytes) -> None:
    said = refusal(checkpoint, name, content)
    assert "expected the weights and moments of a run" in said
    assert "\n" not in said
