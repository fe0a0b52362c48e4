"""Weights per token: their sum, each mode by hand, and that no split of the step changes the loss."""

from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from losses import AVERAGING_MODES, FIPO, LossBatch, token_weights
from tests.losses.agreement import agree, bitwise_equal
from tests.losses.drawn import batches, deterministic

MEANS = ["token_mean", "sequence_mean"]


def test_modes_are_these() -> None:
    assert AVERAGING_MODES == ("token_mean", "sequence_mean", "constant")


def test_each_mode_by_hand() -> None:
    # responses of 1, 3 and 0 tokens: 4 tokens, 2 responses
    mask = torch.tensor([[1, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    expected = {
        "token_mean": [[1 / 4, 0, 0], [1 / 4, 1 / 4, 1 / 4], [0, 0, 0]],
        "sequence_mean": [[1 / 2, 0, 0], [1 / 6, 1 / 6, 1 / 6], [0, 0, 0]],
        "constant": [[1 / 16, 0, 0], [1 / 16, 1 / 16, 1 / 16], [0, 0, 0]],
    }
    for mode, weights in expected.items():
        assert agree(token_weights(mask, mode, 8), torch.tensor(weights, dtype=torch.float64), "float64")


@deterministic
@given(batches(), st.sampled_from(MEANS))
def test_weights_sum_to_1_or_to_0_without_tokens(batch: LossBatch, mode: str) -> None:
    weights = token_weights(batch.mask, mode)
    assert agree(weights.sum(), batch.mask.any().double(), "float64")
    assert not weights[~batch.mask].any()
    assert (weights[batch.mask] > 0).all()


@deterministic
@given(batches())
def test_constant_weights_sum_to_the_mean_length_over_the_limit(batch: LossBatch) -> None:
    lengths = batch.mask.sum(dim=1)
    expected = lengths[lengths > 0].double().mean() / 10 if batch.mask.any() else torch.tensor(0.0)
    assert agree(token_weights(batch.mask, "constant", 10).sum(), expected, "float64")


@pytest.mark.parametrize("mode", AVERAGING_MODES)
def test_empty_rows_change_nothing(mode: str) -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    longer = torch.cat([torch.zeros(1, 3, dtype=torch.bool), mask, torch.zeros(2, 3, dtype=torch.bool)])
    assert bitwise_equal(token_weights(longer, mode, 3)[1:3], token_weights(mask, mode, 3))


def rows(batch: LossBatch, chosen: slice) -> LossBatch:
    """Some of a batch's rows, its policy's log-probabilities still those of the whole."""
    return LossBatch(
        batch.policy_logprobs[chosen],
        batch.old_logprobs[chosen],
        batch.advantages[chosen],
        batch.mask[chosen],
        None if batch.reference_logprobs is None else batch.reference_logprobs[chosen],
    )


def summed(batch: LossBatch, parts: list[slice], weights: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and gradient of a step whose micro-batches are the parts."""
    loss = FIPO(delta=10.0, beta=0.04, clip_high_only=False)
    losses = [(loss(rows(batch, part)).token_loss * weights[part]).sum() for part in parts]
    (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), batch.policy_logprobs)
    return torch.stack(losses).sum(), gradient


@deterministic
@given(batches(), st.sampled_from(AVERAGING_MODES))
def test_splitting_a_step_in_micro_batches_changes_nothing(batch: LossBatch, mode: str) -> None:
    weights = token_weights(batch.mask, mode, 6)
    whole, gradient = summed(batch, [slice(None)], weights)
    split, split_gradient = summed(batch, [slice(row, row + 1) for row in range(len(weights))], weights)
    # the terms of the loss may cancel: what is lost to rounding is a share of the largest
    assert agree(torch.stack([split, weights.new_ones(())]), torch.stack([whole, weights.new_ones(())]), "float64_sum")
    assert bitwise_equal(split_gradient, gradient)


def test_metrics_of_micro_batches_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, old, advantages = (torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    batch = LossBatch(policy, old, advantages, torch.rand(4, 5, generator=generator) > 0.3)
    loss = FIPO(delta=3.0)
    whole = loss(batch).metrics
    parts = [loss(rows(batch, part)).metrics for part in (slice(0, 1), slice(1, 4))]
    for name, (total, count) in whole.items():
        assert agree(sum(part[name][0] for part in parts), total, "float64")
        assert sum(part[name][1] for part in parts) == count == batch.mask.sum()


def test_constant_needs_the_response_limit() -> None:
    with pytest.raises(ValueError, match="max_response_tokens"):
        token_weights(torch.ones(1, 1, dtype=torch.bool), "constant")


def test_unknown_mode_is_refused() -> None:
    # by token_weights itself, or before it by the shape check of the tests, which also reads Literal types
    with pytest.raises((ValueError, TypeError), match="mean_of_means"):
        token_weights(torch.ones(1, 1, dtype=torch.bool), "mean_of_means")


def test_message_of_an_unknown_mode_names_the_modes() -> None:
    # the function without the shape check
    with pytest.raises(ValueError, match="token_mean, sequence_mean, constant, got 'mean_of_means'"):
        unwrap(token_weights)(torch.ones(1, 1, dtype=torch.bool), "mean_of_means")
