"""FIPO among verl's policy losses: `make test-examples`, in an environment of its own."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("verl", reason="make test-examples has an environment of its own for it")
    from hydra import compose, initialize_config_module
    from tensordict import TensorDict
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.utils.losses import ppo_loss

    from docs.examples import verl_fipo

from losses import FIPO, LossBatch, mask_totals, token_weights
from tests.losses.agreement import Numbers, agree, disagreements

pytestmark = pytest.mark.filterwarnings("ignore")  # verl and what it imports warn of each other

EXAMPLE = Path(verl_fipo.__file__)
ROWS, PROMPT, RESPONSE = 8, 2, 40
MODES = {"token-mean": "token_mean", "seq-mean-token-mean": "sequence_mean", "seq-mean-token-sum-norm": "constant"}
OURS = FIPO(epsilon_high=0.28, delta=10.0, log_ratio_clamp=20.0, safety_threshold=10.0)
UNIT = verl_fipo.fipo_policy_loss(clip_range=1e-12, clip_high_only=False)  # every influence weight is 1 to rounding


def config(*changes: str) -> Any:
    """verl's whole configuration under the command in the example's header."""
    stated = re.findall(r"(?:actor_rollout_ref|data)\.\S+=\S+", verl_fipo.__doc__)
    assert len(stated) == 5
    needed = ["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4", *changes]
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=stated + needed)


def actor(*changes: str) -> Any:
    """The actor's part of it, as verl hands it to a policy loss."""
    return omega_conf_to_dataclass(config(*changes).actor_rollout_ref.actor)


def drawn(size: float = 0.5) -> dict[str, Tensor]:
    """Log-probabilities that have moved by about the size since the rollout; a response is empty."""
    generator = torch.Generator().manual_seed(3)
    old, moved = torch.randn(2, ROWS, RESPONSE, generator=generator, dtype=torch.float64)
    mask = torch.arange(RESPONSE) < torch.randint(1, RESPONSE + 1, (ROWS, 1), generator=generator)
    mask[2] = False
    advantages = torch.randn(ROWS, 1, generator=generator, dtype=torch.float64).expand(ROWS, RESPONSE)
    return {
        "old_log_prob": old - 5,
        "log_prob": old - 5 + size * moved,
        "advantages": advantages,
        "response_mask": mask,
    }


def of_verl(policy_loss: Any, rows: dict[str, Tensor], mode: str = "token-mean", **info: Any) -> Numbers:
    """The loss of a registered policy loss, and its gradient by the log-probabilities."""
    settings = actor(f"actor_rollout_ref.actor.loss_agg_mode={mode}")
    settings.global_batch_info.update(info)
    log_prob = rows["log_prob"].clone().requires_grad_()
    loss, _ = policy_loss(**rows | {"log_prob": log_prob}, loss_agg_mode=mode, config=settings)
    return {"loss": loss, "gradient": torch.autograd.grad(loss, log_prob)[0]}


def of_ours(loss: FIPO, rows: dict[str, Tensor], mode: str = "token-mean", factor: Tensor | float = 1.0) -> Numbers:
    """The loss under our token weights, and its gradient, without verl."""
    log_prob = rows["log_prob"].clone().requires_grad_()
    mask = rows["response_mask"]
    token_loss = loss(LossBatch(log_prob, rows["old_log_prob"], rows["advantages"], mask)).token_loss
    total = (token_loss * factor * token_weights(mask, MODES[mode], RESPONSE)).sum()
    return {"loss": total, "gradient": torch.autograd.grad(total, log_prob)[0]}


def equal(ours: Numbers, theirs: Numbers, level: str = "float64_sum") -> bool:
    """Whether both agree to rounding."""
    return not disagreements(ours, theirs, level)


@pytest.mark.parametrize("mode", MODES)
def test_loss_and_gradient_are_ours(mode: str) -> None:
    for size in (0.1, 0.5, 3.0):  # the last also beyond delta and the safety threshold
        rows = drawn(size)
        found, expected = of_verl(get_policy_loss_fn("fipo"), rows, mode), of_ours(OURS, rows, mode)
        # verl adds 1e-8 to a response's count of tokens
        assert equal(found, expected, "float32_sum" if mode == "seq-mean-token-mean" else "float64_sum")


@pytest.mark.parametrize("settings", [{}, {"clip_high_only": False, "safety_threshold": 1.5, "decay_rate": 8.0}])
def test_settings_are_those_of_fipo(settings: dict[str, Any]) -> None:
    rows = drawn()
    found = of_verl(verl_fipo.fipo_policy_loss(**settings), rows)
    assert equal(found, of_ours(FIPO(epsilon_high=0.28, delta=10.0, log_ratio_clamp=20.0, **settings), rows))


@pytest.mark.parametrize("mode", MODES)
def test_unit_weights_are_verls_vanilla_with_dual_clip_10(mode: str) -> None:
    for size in (0.5, 3.0):
        vanilla = of_verl(get_policy_loss_fn("vanilla"), drawn(size), mode)
        assert equal(of_verl(UNIT, drawn(size), mode), vanilla)
        assert not equal(of_verl(get_policy_loss_fn("fipo"), drawn(size), mode), vanilla)
    still = drawn(0.0)
    assert equal(of_verl(get_policy_loss_fn("fipo"), still, mode), of_verl(get_policy_loss_fn("vanilla"), still, mode))


def test_log_ratios_are_cut_as_in_verl() -> None:
    far = drawn(12.0)
    settings: dict[str, Any] = {"clip_range": None, "decay_rate": 2.0}  # else bounds hide how far the sums go
    found = of_verl(verl_fipo.fipo_policy_loss(**settings), far)
    assert equal(found, of_ours(FIPO(epsilon_high=0.28, delta=10.0, log_ratio_clamp=20.0, **settings), far))
    assert not equal(found, of_ours(FIPO(epsilon_high=0.28, delta=10.0, **settings), far))
    assert equal(of_verl(UNIT, far), of_verl(get_policy_loss_fn("vanilla"), far))


def test_rollout_correction_is_verls() -> None:
    weights = 0.5 + torch.rand(ROWS, RESPONSE, generator=torch.Generator().manual_seed(4))
    rows = drawn() | {"rollout_is_weights": weights}
    assert equal(of_verl(UNIT, rows), of_verl(get_policy_loss_fn("vanilla"), rows))
    assert equal(of_verl(get_policy_loss_fn("fipo"), rows), of_ours(OURS, drawn(), factor=weights))


def test_bfloat16_is_widened() -> None:
    rows = {name: values if name == "response_mask" else values.bfloat16() for name, values in drawn().items()}
    wide = {name: values if name == "response_mask" else values.float() for name, values in rows.items()}
    found, expected = of_verl(get_policy_loss_fn("fipo"), rows), of_ours(OURS, wide)
    assert agree(found["loss"], expected["loss"], "float32_sum")


def micro_batch(rows: dict[str, Tensor], chosen: slice, log_prob: Tensor, **info: Any) -> tuple[Any, TensorDict]:
    """What verl's engine hands to its actor's loss: all positions' log-probabilities in a row, and the padded rest."""
    mask = rows["response_mask"][chosen]
    count = len(mask)
    # position i of a sequence holds the log-probability of token i + 1
    shifted = torch.nn.functional.pad(log_prob[chosen], (PROMPT - 1, 1))
    attended = torch.ones(count, PROMPT + RESPONSE, dtype=torch.long)
    fields = {"response_mask": mask.long(), "old_log_probs": rows["old_log_prob"][chosen]}
    fields |= {"advantages": rows["advantages"][chosen].contiguous(), "attention_mask": attended}
    fields |= {"prompts": attended[:, :PROMPT], "responses": attended[:, PROMPT:]}
    data = TensorDict(fields, batch_size=[count])
    for name, value in info.items():
        data.set_non_tensor(name, value)
    return {"log_probs": shifted.flatten()}, data


def test_micro_batches_of_verls_actor_add_up_to_our_token_mean() -> None:
    rows = drawn()
    log_prob = rows["log_prob"].clone().requires_grad_()
    tokens = int(mask_totals(rows["response_mask"])[0])
    info = {"dp_size": 1, "batch_num_tokens": tokens, "global_batch_size": ROWS}
    found = []
    for chosen in (slice(0, 3), slice(3, ROWS)):  # of different sizes: rows must not count, tokens must
        loss, metrics = ppo_loss(actor(), *micro_batch(rows, chosen, log_prob, **info))
        assert metrics["actor/fipo/influence_weight"].aggregate() > 1
        assert 0 < metrics["actor/fipo/influence_weight_moved"].aggregate() < 1
        found.append(loss)
    total = torch.stack(found).sum()
    assert equal({"loss": total, "gradient": torch.autograd.grad(total, log_prob)[0]}, of_ours(OURS, rows))


def test_ranks_averages_add_up_to_our_token_mean() -> None:
    rows = drawn()
    tokens = int(mask_totals(rows["response_mask"])[0])
    parts = [{name: values[part] for name, values in rows.items()} for part in (slice(0, 3), slice(3, ROWS))]
    fipo = get_policy_loss_fn("fipo")
    ranks = [of_verl(fipo, part, dp_size=2, batch_num_tokens=tokens, global_batch_size=ROWS) for part in parts]
    assert agree(torch.stack([rank["loss"] for rank in ranks]).mean(), of_ours(OURS, rows)["loss"], "float64_sum")


def test_header_command_makes_more_than_one_update_and_names_this_loss() -> None:
    whole = config("+ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES=verl_fipo")
    assert whole.data.train_batch_size // whole.actor_rollout_ref.actor.ppo_mini_batch_size == 8
    assert (actor().policy_loss.loss_mode, actor().clip_ratio_high, actor().clip_ratio_c) == ("fipo", 0.28, 10)
    assert whole.ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES == "verl_fipo"


def test_verl_imports_the_example_by_itself(tmp_path: Path) -> None:
    program = (
        "import verl; from verl.trainer.ppo.core_algos import get_policy_loss_fn as f; print(f('fipo').__module__)"
    )
    paths = os.pathsep.join([str(EXAMPLE.parents[2]), str(EXAMPLE.parent)])
    environment = os.environ | {"PYTHONPATH": paths, "VERL_USE_EXTERNAL_MODULES": EXAMPLE.stem}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["verl_fipo"]
