"""What an optimizer step moves, and what it must keep to move it."""

import copy

import pytest
import torch

from harness.backends.torch_backend import step_and_measure, torch_backend
from harness.config.resolve import resolve, resolve_tree, tree_of
from harness.config.schema import OptimizerSettings
from harness.errors import UsageError
from harness.model.policy import Policy
from tests.harness.agreement import agree
from tests.harness.tiny import small_config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_step_is_adamws_and_its_norm_what_the_weights_moved_by(dtype: torch.dtype, random_policy: Policy) -> None:
    """In bfloat16 alone a step of 1e-6 moves next to nothing, and the norm says so."""
    ours, theirs = (copy.deepcopy(random_policy.model).to(dtype) for _ in range(2))
    settings = OptimizerSettings(lr=1e-6, weight_decay=0.1, warmup_steps=0)
    optimizers = [
        torch_backend(Policy(model, None, frozenset()), settings, updates_per_step=1).optimizer
        for model in (ours, theirs)
    ]
    for _ in range(2):
        generator = torch.Generator().manual_seed(0)
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            own.grad = torch.randn(own.shape, generator=generator).to(dtype)
            other.grad = own.grad.clone()
        before = [parameter.detach().clone() for parameter in ours.parameters()]
        norm = step_and_measure(optimizers[0])
        optimizers[1].step()
    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))
    moved = [(now.detach() - then).double().norm() for now, then in zip(ours.parameters(), before, strict=True)]
    assert agree(norm, torch.stack(moved).norm(), "network")
    whole = 1e-6 * sum(parameter.numel() for parameter in ours.parameters()) ** 0.5
    assert norm > 0.9 * whole if dtype is torch.float32 else norm < 0.5 * whole


def test_bfloat16_without_float32_weights_is_refused_for_runs_to_come() -> None:
    for flags in ({}, {"backend": "torch"}):
        with pytest.raises(UsageError, match=r"^--dtype bfloat16 with --backend torch .*--lora_rank 16"):
            resolve({"dtype": "bfloat16", **flags})
    for flags in ({"lora_rank": 4}, {"backend": "deepspeed", "zero_stage": 1}):
        assert resolve({"dtype": "bfloat16", **flags}).model.dtype == "bfloat16"
    recorded = tree_of(small_config())
    recorded["model"]["dtype"] = "bfloat16"
    assert resolve_tree(recorded, "of an earlier run").model.dtype == "bfloat16"
