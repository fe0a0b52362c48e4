"""The gradient of an optimizer step however it is laid out, and what the step moves."""

import copy
import dataclasses
from typing import Any

import pytest
import torch

from harness.algorithm.loss_metrics import LossRecord
from harness.algorithm.update import known_logprobs
from harness.backends.torch_backend import torch_backend
from harness.config.schema import OptimizerSettings
from harness.model.policy import Policy
from losses import AVERAGING_MODES, LOSSES
from tests.harness.agreement import agree
from tests.harness.algorithm.steps import one_minibatch, stepped

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
def test_the_step_is_float32_adamws_and_its_norm_what_it_moved(dtype: torch.dtype, random_policy: Policy) -> None:
    """In bfloat16 too, which alone would lose most of a step of 1e-6, and the second micro-batch's gradient."""
    model = copy.deepcopy(random_policy.model).to(dtype)
    exact = copy.deepcopy(model).float()
    backend = torch_backend(
        Policy(model, None, frozenset()), OptimizerSettings(lr=1e-6, weight_decay=0.1, warmup_steps=0), 1
    )
    theirs = torch.optim.AdamW(exact.parameters(), lr=1e-6, weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        backend.zero_grad()
        for own, other in zip(model.parameters(), exact.parameters(), strict=True):
            gradient = torch.randn(own.shape, generator=generator).to(dtype)
            for size in (1.0, 2**-10):
                backend.backward((own * gradient * size).sum(), is_last=False)
            other.grad = gradient.float() + gradient.float() * 2**-10
        before = [parameter.detach().clone() for parameter in exact.parameters()]
        norm = backend.step(torch.zeros(()))
        theirs.step()
    assert all(map(torch.equal, backend.masters.values(), exact.parameters()))
    moved = [(now.detach() - then).double().norm() for now, then in zip(exact.parameters(), before, strict=True)]
    assert agree(norm, torch.stack(moved).norm(), "network")
    assert all(map(torch.equal, model.parameters(), exact.to(dtype).parameters()))
