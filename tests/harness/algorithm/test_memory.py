"""How often a run holds its weights, counted tensor by tensor on a CPU, with a model whose weights are most of it."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import models
from harness.loop import run_step
from harness.model.policy import write_policy
from harness.run.checkpoint import begin_run
from harness.run.initial_model import initial_policy
from harness.run.record import NullRunFolder
from tests.harness.plan.live_memory import LiveMemory
from tests.harness.tiny import small_config

SHAPE = models.LARGER | {"hidden_size": 256, "intermediate_size": 1024}  # 4.2 million parameters in 4 layers
LARGEST = 4 * 256 * 1024  # bytes of its largest weights in float32
# an update's text has at most 8 + 24 tokens, each with at most 20 hidden states and 6 rows of the MLP per layer
ACTIVATIONS = 4 * 32 * 4 * (20 * 256 + 6 * 1024)
SMALL = {"prompts_per_step": 2, "group_size": 2, "minibatches": 1, "micro_batch_size": 1, "max_response_tokens": 8}
SMALL |= {"eval_prompts": 2, "dynamic_sampling": False, "control": "random_reward", "allow_inert": True}


@pytest.mark.train
@pytest.mark.parametrize(
    ("changes", "block"),
    [
        ({"loss_type": "dapo"}, 0.0),
        ({"loss_type": "grpo", "beta": 0.1}, 0.0),
        ({"loss_type": "fipo", "dtype": "bfloat16", "noise_tolerance": 1.0, "sync_tolerance": 1.0}, 0.0),
        ({"loss_type": "fipo", "lora_rank": 4}, 1 / 4),  # the export is tried one block of layers at a time
    ],
    ids=["plain", "with a reference", "bfloat16", "adapters"],
)
def test_weights_are_held_once_and_an_update_adds_gradients_and_two_moments(
    changes: dict[str, Any], block: float, tmp_path: Path
) -> None:
    """Beside them a reference model where the loss has one, and float32 copies of weights in bfloat16."""
    write_policy(tmp_path, models.random_policy(SHAPE))
    config = small_config(str(tmp_path), **SMALL | changes)
    with LiveMemory([]) as live:
        policy = initial_policy(config)
        held = sum(parameter.nbytes for parameter in policy.model.parameters())
        assert live.peak <= held * (1 + block) + 2 * LARGEST
        reference = policy.copy() if config.loss.needs_reference else None
        training = begin_run(config, policy, reference)
        trained = sum(4 * one.numel() for one in policy.model.parameters() if one.requires_grad)
        held += held * bool(reference) + trained * (config.model.dtype == "bfloat16")
        assert live.peak <= held * (1 + block) + 2 * LARGEST
        for _ in range(2):
            live.peak = live.now
            run_step(config, training, NullRunFolder(tmp_path))
            training.steps_done += 1
    assert held + 3 * trained <= live.peak <= held + 3 * trained + LARGEST + ACTIVATIONS
