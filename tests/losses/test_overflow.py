"""Log-ratios of any size: nothing overflows, infinite shifts stay in their own past, and NaN is not hidden."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from losses import (
    DAPO,
    FIPO,
    GRPO,
    LossBatch,
    future_kl,
    group_advantages,
    influence_weights,
    sequence_filter,
    token_weights,
)
from losses.parts.precision import capped_exp, exponent_limit
from tests.losses.agreement import agree, bitwise_equal
from tests.losses.drawn import with_gradient

INF, NAN = math.inf, math.nan
DTYPES = [torch.float32, torch.float64]
UNBOUNDED = [FIPO(clip_range=None), FIPO(clip_range=None, delta=10.0), FIPO(clip_range=None, safety_threshold=None)]
ALL = [GRPO(), DAPO(delta=10.0), FIPO(), FIPO(log_ratio_clamp=20.0, delta=10.0, weight_bound=10.0), *UNBOUNDED]


def shifted(log_ratio: Tensor, advantages: Tensor) -> LossBatch:
    """Responses with these log-ratios; where one is infinite, so is a log-probability."""
    policy = torch.full_like(log_ratio, -1.0).masked_fill(log_ratio == -INF, -INF)
    old = torch.where(log_ratio == INF, -INF, -1.0 - log_ratio.where(log_ratio.isfinite(), 0.0))
    return LossBatch(policy.requires_grad_(), old.to(log_ratio.dtype), advantages, torch.ones_like(log_ratio).bool())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [100.0, 1000.0, INF, -100.0, -1000.0, -INF])
@pytest.mark.parametrize("loss", ALL)
def test_loss_and_gradient_are_finite(loss: GRPO, shift: float, dtype: torch.dtype) -> None:
    # all tokens, the last, and one of a first block
    log_ratio = torch.full((3, 40), 0.1, dtype=dtype)
    log_ratio[0], log_ratio[1, -1], log_ratio[2, 5] = shift, shift, shift
    for advantage in (-1.0, 1.0):
        batch = shifted(log_ratio, torch.full_like(log_ratio, advantage))
        output, gradient = with_gradient(loss, batch)
        assert gradient.isfinite().all()
        assert output.token_loss.isfinite().all()
        assert output.diagnostics.get("influence_weight", gradient).isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("difference", [100.0, 1000.0, INF, -100.0, -1000.0])
def test_kl_to_reference_is_finite_and_its_gradient_never_away_from_it(difference: float, dtype: torch.dtype) -> None:
    # where the reference finds the token likelier, its KL must not push the token further down
    policy = torch.full((1, 2), min(-difference, -1.0), dtype=dtype, requires_grad=True)
    reference = torch.full_like(policy, min(difference - 1.0, 0.0))
    none = torch.zeros_like(reference)
    output = GRPO(beta=0.04)(LossBatch(policy, none, none, none == 0, reference))
    (gradient,) = torch.autograd.grad(output.token_loss.sum(), policy)
    assert output.token_loss.isfinite().all()
    assert gradient.isfinite().all()
    assert (output.diagnostics["kl_to_reference"] > 0).all()
    assert (gradient * math.copysign(1.0, difference) <= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponent_limit_is_a_third_of_where_exp_overflows(dtype: torch.dtype) -> None:
    limit = torch.tensor(exponent_limit(dtype), dtype=dtype)
    assert (3 * limit * 0.999).exp().isfinite()
    assert (3 * limit * 1.001).exp() == INF
    exponents = torch.stack([limit - 1, limit, limit + 1, 100 * limit]).requires_grad_()
    (gradient,) = torch.autograd.grad(capped_exp(exponents).sum(), exponents)
    assert bitwise_equal(capped_exp(exponents), torch.stack([limit - 1, limit, limit, limit]).exp())
    assert (gradient > 0).tolist() == [True, True, False, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [12, 40, 300])
@pytest.mark.parametrize("infinite", [INF, -INF])
def test_an_infinite_shift_reaches_its_own_past_and_nothing_else(
    infinite: float, tokens: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(tokens)
    log_ratio = torch.randn(3, tokens, generator=generator, dtype=dtype)
    mask = torch.ones(3, tokens, dtype=torch.bool)
    place = tokens // 2
    plain = future_kl(log_ratio, mask, 32.0)
    log_ratio[1, place] = infinite
    future = future_kl(log_ratio, mask, 32.0)
    assert bitwise_equal(future[[0, 2]], plain[[0, 2]])
    assert bitwise_equal(future[1, place + 1 :], plain[1, place + 1 :])
    reached = future[1, : place + 1]
    assert reached.isfinite().all()
    # as far as it is not discounted to nothing: 150 tokens at a half-life of 32 leave a 26th
    assert (reached * math.copysign(1.0, infinite) > exponent_limit(dtype)).all()


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("name", ["policy_logprobs", "old_logprobs", "advantages"])
def test_nan_on_a_response_token_is_not_hidden(name: str, loss: GRPO) -> None:
    batch = shifted(torch.full((2, 40), 0.1), torch.ones(2, 40))
    spoiled = getattr(batch, name).detach().clone()
    spoiled[0, 20] = NAN
    output = loss(replace(batch, **{name: spoiled}))
    assert output.token_loss[0, 20].isnan()
    assert (output.token_loss * token_weights(batch.mask, "token_mean")).sum().isnan()
    # the other response is as it was
    assert bitwise_equal(output.token_loss[1], loss(batch).token_loss[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_public_functions_compute_half_precision_in_float32(dtype: torch.dtype) -> None:
    future, ones = torch.tensor([[5.0, 0.1]], dtype=dtype), torch.ones(1, 2, dtype=dtype)
    weights = influence_weights(future, ones, ones, (0.0, math.inf))
    assert agree(weights, future.float().exp(), "float32")
    # a ratio of 100, which a cap in float16 would cut to 40
    log_ratio, mask = torch.full((1, 2), 4.6, dtype=dtype), torch.ones(1, 2, dtype=torch.bool)
    assert not sequence_filter(log_ratio, -ones, mask, 50.0).any()
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.3], dtype=dtype)
    assert agree(
        group_advantages(rewards, torch.zeros(4).long()),
        group_advantages(rewards.float(), torch.zeros(4).long()),
        "exact",
    )


@pytest.mark.parametrize("loss", [DAPO(delta=10.0), FIPO(delta=10.0)])
@pytest.mark.parametrize("tokens", [0, 3, 300])
def test_a_micro_batch_without_responses_is_no_loss(loss: DAPO, tokens: int) -> None:
    policy = torch.zeros(0, tokens, requires_grad=True)
    empty = torch.zeros(0, tokens)
    output = loss(LossBatch(policy, empty, empty, empty.bool()))
    output.token_loss.sum().backward()
    assert output.token_loss.shape == policy.grad.shape == (0, tokens)
