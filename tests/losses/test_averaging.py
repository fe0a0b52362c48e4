"""Weights per token: each mode by hand, their sum, and losses and metrics that add up over micro-batches."""

from dataclasses import fields, replace
from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from losses import AVERAGING_MODES, DAPO, FIPO, GRPO, LossBatch, mask_totals, token_weights
from tests.losses.agreement import agree
from tests.losses.drawn import batches, deterministic

LOSSES = [
    GRPO(beta=0.04),
    DAPO(epsilon_high=0.28, delta=3.0),
    FIPO(clip_high_only=False),
    FIPO(delta=3.0, log_ratio_clamp=20.0, filter_in_log_space=True, weight_bound=10.0),
    FIPO(clip_range=None, decay_rate=4.0),
]
ONE = torch.ones((), dtype=torch.float64)  # beside numbers that may all be 0


def test_each_mode_by_hand() -> None:
    # responses of 1, 3 and 0 tokens: 4 tokens, 2 responses
    mask = torch.tensor([[1, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    expected = {
        "token_mean": [[1 / 4, 0, 0], [1 / 4, 1 / 4, 1 / 4], [0, 0, 0]],
        "sequence_mean": [[1 / 2, 0, 0], [1 / 6, 1 / 6, 1 / 6], [0, 0, 0]],
        "constant": [[1 / 16, 0, 0], [1 / 16, 1 / 16, 1 / 16], [0, 0, 0]],
        "sequence_sum": [[1 / 2, 0, 0], [1 / 2, 1 / 2, 1 / 2], [0, 0, 0]],
    }
    assert tuple(expected) == AVERAGING_MODES
    for mode, weights in expected.items():
        found = token_weights(mask, mode, 8)
        assert found.dtype == torch.float64  # float32 sums of millions of weights would not be 1
        assert agree(found, torch.tensor(weights, dtype=torch.float64), "float64")


def rows_of(batch: LossBatch, rows: list[int]) -> LossBatch:
    """A micro-batch of these responses."""
    return LossBatch(*(None if value is None else value[rows] for value in values_of(batch)))


def values_of(batch: LossBatch) -> list[Tensor | None]:
    return [getattr(batch, field.name) for field in fields(batch)]


@deterministic
@given(batches(), st.sampled_from(LOSSES), st.sampled_from(AVERAGING_MODES))
def test_micro_batches_add_up_to_the_whole_in_any_order(batch: LossBatch, loss: GRPO, mode: str) -> None:
    def scalar(parts: list[LossBatch]) -> Tensor:
        totals = torch.stack([mask_totals(part.mask) for part in parts]).sum(dim=0)
        return torch.stack([(loss(p).token_loss * token_weights(p.mask, mode, 6, totals)).sum() for p in parts]).sum()

    rows, policy = range(len(batch.mask)), batch.policy_logprobs
    apart = [rows_of(batch, [row]) for row in reversed(rows)]
    empty = replace(batch, mask=torch.zeros_like(batch.mask))  # responses without tokens change nothing
    whole, *others = (scalar(parts) for parts in ([batch], apart, [rows_of(batch, list(rows)[1:]), apart[-1], empty]))
    (gradient,) = torch.autograd.grad(whole, policy, retain_graph=True)
    for other in others:
        assert agree(torch.stack([other, ONE]), torch.stack([whole, ONE]), "float64_split")
        (own,) = torch.autograd.grad(other, policy, retain_graph=True)
        assert agree(torch.cat([own.flatten(), ONE[None]]), torch.cat([gradient.flatten(), ONE[None]]), "float64_split")


def test_an_unknown_mode_is_refused_with_those_that_there_are() -> None:
    # the function without the shape check of the tests, which also reads Literal types
    with pytest.raises(ValueError, match="token_mean, sequence_mean, constant, sequence_sum, got 'mean_of_means'"):
        unwrap(token_weights)(torch.ones(1, 1, dtype=torch.bool), "mean_of_means")
