"""Influence weights that are handed over: FIPO uses them in the place of its own, the others have none."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given

from losses import DAPO, FIPO, GRPO, LossBatch
from tests.losses.agreement import bitwise_equal
from tests.losses.drawn import batches, deterministic

CLIP = {"epsilon_high": 0.28, "delta": 10.0}


def weights_like(batch: LossBatch) -> torch.Tensor:
    """A weight of its own for every position, outside of every bound too."""
    count = batch.advantages.numel()
    return torch.linspace(0.1, 3.0, count, dtype=batch.advantages.dtype).view_as(batch.advantages)


@deterministic
@given(batches())
def test_fipo_with_given_weights_is_dapo_with_weighted_advantages(batch: LossBatch) -> None:
    weights = weights_like(batch)
    ours = FIPO(**CLIP)(replace(batch, influence_weights=weights))
    weighted = batch.widened().advantages * weights.to(batch.widened().advantages.dtype)
    theirs = DAPO(**CLIP)(replace(batch, advantages=weighted))
    assert bitwise_equal(ours.token_loss, theirs.token_loss)
    assert bitwise_equal(
        ours.diagnostics["influence_weight"], torch.where(batch.mask, weights.to(ours.token_loss), 0.0)
    )


@deterministic
@given(batches())
def test_its_own_weights_handed_over_change_nothing(batch: LossBatch) -> None:
    loss = FIPO(**CLIP)
    own = loss(batch)
    given_back = loss(replace(batch, influence_weights=own.diagnostics["influence_weight"]))
    assert bitwise_equal(own.token_loss, given_back.token_loss)
    assert bitwise_equal(own.diagnostics["future_kl"], given_back.diagnostics["future_kl"])


@pytest.mark.parametrize("loss", [GRPO(), DAPO(**CLIP)])
@deterministic
@given(batches())
def test_the_other_losses_have_no_weights(loss: GRPO, batch: LossBatch) -> None:
    weighted = loss(replace(batch, influence_weights=weights_like(batch)))
    assert bitwise_equal(weighted.token_loss, loss(batch).token_loss)


def test_given_weights_carry_no_gradient_and_are_not_read_where_masked() -> None:
    policy = torch.full((1, 3), -1.0, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([[1.5, 0.5, float("nan")]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    batch = LossBatch(policy, policy.detach(), torch.ones_like(policy.detach()), mask, None, weights)
    FIPO(**CLIP)(batch).token_loss.sum().backward()
    assert weights.grad is None
    assert policy.grad is not None
    assert policy.grad.tolist() == [[-1.5, -0.5, 0.0]]
