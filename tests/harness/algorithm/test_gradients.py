"""The gradient of an optimizer step however it is laid out, and what the step moves."""

import copy
import dataclasses
from typing import Any

import pytest
import torch

from harness.algorithm.loss_metrics import LossRecord
from harness.algorithm.update import known_logprobs
from harness.backends.torch_backend import step_and_measure, torch_backend
from harness.config.resolve import resolve, resolve_tree, tree_of
from harness.config.schema import OptimizerSettings
from harness.errors import UsageError
from harness.model.policy import Policy
from losses import AVERAGING_MODES, LOSSES
from tests.harness.agreement import agree
from tests.harness.algorithm.steps import one_minibatch, stepped
from tests.harness.tiny import small_config

WIDE = {"loss_type": "fipo", "fipo_clip_range": 0.5, "fipo_clip_high_only": False}
CASES: list[dict[str, Any]] = [
    *({"loss_type": loss, "averaging": averaging} for loss in LOSSES for averaging in AVERAGING_MODES),
    {"loss_type": "fipo", "sequence_filter": True, "epsilon_high": 0.001, "delta": 1.002},
    *(WIDE | {"placebo": kind} for kind in ("sign_mean", "response_mean", "shuffle_within", "shuffle_batch")),
]


@pytest.fixture(scope="module")
def moved_policy(random_policy: Policy) -> Policy:
    """The random policy after a step, so that ratios to it are not 1."""
    moved = dataclasses.replace(random_policy, model=copy.deepcopy(random_policy.model))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in moved.model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    return moved


def gradient_and_record(
    policy: Policy, other: Policy, layout: dict[str, int], **changes: Any
) -> tuple[torch.Tensor, LossRecord]:
    """Those of one optimizer step over four groups, the other policy being old and reference."""
    minibatch = one_minibatch(policy, **layout)
    (known,) = known_logprobs(other, other, [minibatch], 1.0)
    return stepped(policy, minibatch, known, **{"beta": 0.1, "minibatches": 1, "epochs": 2} | layout | changes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case.values())))
def test_however_responses_are_laid_out_the_gradient_is_that_of_one_batch(
    random_policy: Policy, moved_policy: Policy, case: dict[str, Any]
) -> None:
    whole, record = gradient_and_record(random_policy, moved_policy, {}, **case)
    assert whole.abs().max() > 0
    assert "sequence_filter" not in case or record.means()["filtered_responses"] > 0
    for layout in ({"micro_batch_size": 2}, {"micro_batch_tokens": 60}):
        parts, of_parts = gradient_and_record(random_policy, moved_policy, layout, **case)
        assert agree(parts, whole, "network")
        assert agree(of_parts.gradient_norms, record.gradient_norms, "network")
        assert of_parts.means().keys() == record.means().keys()
        assert of_parts.counts == record.counts
        assert of_parts.response_weights.keys() == record.response_weights.keys()


def test_losses_averagings_and_placebos_differ_here(random_policy: Policy, moved_policy: Policy) -> None:
    dapo, fipo = {"loss_type": "dapo", "averaging": "token_mean"}, {"averaging": "token_mean"} | WIDE
    others = [dapo | {"averaging": "sequence_mean"}, fipo, *(fipo | case for case in CASES[-4:])]
    gradients = [gradient_and_record(random_policy, moved_policy, {}, **each)[0] for each in (dapo, *others)]
    for index, gradient in enumerate(gradients):
        assert not any(agree(gradient, other, "network") for other in gradients[:index])


def test_gradient_is_cut_to_the_clip(random_policy: Policy, moved_policy: Policy) -> None:
    free, free_record = gradient_and_record(random_policy, moved_policy, {}, loss_type="dapo")
    cut, cut_record = gradient_and_record(random_policy, moved_policy, {}, loss_type="dapo", grad_clip=1e-3)
    assert cut_record.gradient_norms == free_record.gradient_norms  # before clipping
    assert agree(cut / 1e-3, free / free.norm(), "network")


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
