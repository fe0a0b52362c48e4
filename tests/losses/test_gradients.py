"""Gradients beside central differences."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from losses import DAPO, GRPO, LossBatch, token_weights
from tests.losses.agreement import agree
from tests.losses.drawn import batches, deterministic, with_gradient

STEP = 1e-6
SMOOTH = [
    GRPO(beta=0.5),
    GRPO(beta=0.04, log_ratio_clamp=2.0),
    DAPO(epsilon_low=0.3, epsilon_high=0.4),
    DAPO(epsilon_high=0.28, delta=3.0, beta=0.04),
]


def scalar(loss: GRPO, batch: LossBatch) -> Tensor:
    """The averaged loss."""
    return (loss(batch).token_loss * token_weights(batch.mask, "sequence_mean")).sum()


def away_from_kinks(loss: GRPO, batch: LossBatch) -> Tensor:
    """Tokens near which the loss has one slope."""
    log_ratio = (batch.policy_logprobs - batch.old_logprobs).detach()
    kinks = [1 - loss.epsilon_low, 1 + loss.epsilon_high, loss.delta]
    near = [(log_ratio.exp() - kink).abs() < 100 * STEP for kink in kinks if kink is not None]
    if loss.log_ratio_clamp is not None:
        near.append((log_ratio.abs() - loss.log_ratio_clamp).abs() < 100 * STEP)
    return ~torch.stack(near).any(dim=0)


@deterministic
@given(batches(), st.sampled_from(SMOOTH))
def test_gradient_is_that_of_central_differences(batch: LossBatch, loss: GRPO) -> None:
    # a token's loss depends on its own log-probability alone, so that one step moves all tokens at once
    policy = batch.policy_logprobs.detach()
    weights = token_weights(batch.mask, "sequence_mean")
    above, below = (loss(replace(batch, policy_logprobs=policy + step)).token_loss for step in (STEP, -STEP))
    differences = (above - below) / (2 * STEP) * weights
    _, gradient = with_gradient(loss, batch, "sequence_mean")
    smooth = away_from_kinks(loss, batch)
    # where all gradients are 0 there is no largest one: beside a gradient of 1
    one = torch.ones(1, dtype=torch.float64)
    assert agree(torch.cat([gradient[smooth], one]), torch.cat([differences[smooth], one]), "difference")
