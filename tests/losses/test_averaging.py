"""Weights per token: each mode by hand, their sum, and metrics that add up over micro-batches."""

from dataclasses import fields
from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from losses import AVERAGING_MODES, FIPO, LossBatch, token_weights
from tests.losses.agreement import agree, bitwise_equal
from tests.losses.drawn import batches, deterministic


def test_each_mode_by_hand() -> None:
    # responses of 1, 3 and 0 tokens: 4 tokens, 2 responses
    mask = torch.tensor([[1, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    expected = {
        "token_mean": [[1 / 4, 0, 0], [1 / 4, 1 / 4, 1 / 4], [0, 0, 0]],
        "sequence_mean": [[1 / 2, 0, 0], [1 / 6, 1 / 6, 1 / 6], [0, 0, 0]],
        "constant": [[1 / 16, 0, 0], [1 / 16, 1 / 16, 1 / 16], [0, 0, 0]],
    }
    assert tuple(expected) == AVERAGING_MODES
    for mode, weights in expected.items():
        found = token_weights(mask, mode, 8)
        assert found.dtype == torch.float64  # float32 sums of millions of weights would not be 1
        assert agree(found, torch.tensor(weights, dtype=torch.float64), "float64")


@deterministic
@given(batches(), st.sampled_from(["token_mean", "sequence_mean"]))
def test_weights_sum_to_1_or_to_0_without_tokens(batch: LossBatch, mode: str) -> None:
    weights = token_weights(batch.mask, mode)
    assert agree(weights.sum(), batch.mask.any().double(), "float64")
    assert not weights[~batch.mask].any()
    assert (weights[batch.mask] > 0).all()


@pytest.mark.parametrize("mode", AVERAGING_MODES)
def test_empty_rows_change_nothing(mode: str) -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    longer = torch.cat([torch.zeros(1, 3, dtype=torch.bool), mask, torch.zeros(2, 3, dtype=torch.bool)])
    assert bitwise_equal(token_weights(longer, mode, 3)[1:3], token_weights(mask, mode, 3))


def test_metrics_of_micro_batches_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, old, advantages = (torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    batch = LossBatch(policy, old, advantages, torch.rand(4, 5, generator=generator) > 0.3)
    loss = FIPO(delta=3.0)
    values = [getattr(batch, field.name) for field in fields(batch)]
    parts = [
        loss(LossBatch(*(value if value is None else value[part] for value in values))).metrics
        for part in (slice(0, 1), slice(1, 4))
    ]
    for name, (total, count) in loss(batch).metrics.items():
        assert agree(sum(part[name][0] for part in parts), total, "float64")
        assert sum(part[name][1] for part in parts) == count == batch.mask.sum()


def test_an_unknown_mode_is_refused_with_those_that_there_are() -> None:
    # the function without the shape check of the tests, which also reads Literal types
    with pytest.raises(ValueError, match="token_mean, sequence_mean, constant, got 'mean_of_means'"):
        unwrap(token_weights)(torch.ones(1, 1, dtype=torch.bool), "mean_of_means")
