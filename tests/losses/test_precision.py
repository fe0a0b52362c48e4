"""What comes in bfloat16 is computed in float32, what comes in float64 stays there."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from losses import DAPO, FIPO, GRPO, LossBatch, future_kl, token_weights
from tests.losses.agreement import agree, bitwise_equal

HALF = [torch.bfloat16, torch.float16]
ALL = [GRPO(beta=0.04), DAPO(delta=10.0), FIPO(delta=10.0, clip_range=None)]


def drawn(dtype: torch.dtype, tokens: int = 200) -> LossBatch:
    """Log-probabilities rounded to the dtype."""
    generator = torch.Generator().manual_seed(3)
    old, shift, advantages, reference = (torch.randn(2, tokens, generator=generator) for _ in range(4))
    policy = (old + 0.1 * shift).to(dtype).requires_grad_()
    mask = torch.rand(2, tokens, generator=generator) > 0.1
    return LossBatch(policy, old.to(dtype), advantages.to(dtype), mask, reference.to(dtype))


def widened(batch: LossBatch, dtype: torch.dtype) -> LossBatch:
    """The same rounded numbers in a wider dtype."""
    policy = batch.policy_logprobs.detach().to(dtype).requires_grad_()
    old, advantages, reference = (
        values.to(dtype) for values in (batch.old_logprobs, batch.advantages, batch.reference_logprobs)
    )
    return LossBatch(policy, old, advantages, batch.mask, reference)


def constant_shift(decay_rate: float, dtype: torch.dtype) -> Tensor:
    """The Future-KL of 512 equal shifts."""
    log_ratio = torch.full((1, 512), 0.01, dtype=dtype)
    return future_kl(log_ratio, torch.ones(1, 512, dtype=torch.bool), decay_rate)


@pytest.mark.parametrize("dtype", HALF)
def test_decay_rates_128_and_256_differ(dtype: torch.dtype) -> None:
    # 2^(-1/128) = 0.9946 and 2^(-1/256) = 0.9973: bfloat16, whose step below 1 is 0.0039, hardly tells them apart
    slow, fast = constant_shift(256.0, dtype), constant_shift(128.0, dtype)
    assert slow[0, 0] > 1.5 * fast[0, 0]
    shift = torch.tensor(0.01, dtype=dtype).double()
    for decay_rate, future in ((256.0, slow), (128.0, fast)):
        gamma = 2 ** (-1 / decay_rate)
        assert future.dtype == torch.float32
        assert agree(future[0, 0], shift * (1 - gamma**512) / (1 - gamma), "float32")


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("loss", ALL)
def test_half_precision_inputs_are_computed_in_float32(loss: GRPO, dtype: torch.dtype) -> None:
    batch = drawn(dtype)
    wide = widened(batch, torch.float32)
    output, expected = loss(batch), loss(wide)
    assert bitwise_equal(output.token_loss, expected.token_loss)
    for name, values in expected.diagnostics.items():
        assert bitwise_equal(output.diagnostics[name], values)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("loss", ALL)
def test_gradient_of_half_precision_inputs_is_rounded_once(loss: GRPO, dtype: torch.dtype) -> None:
    batch = drawn(dtype)
    wide = widened(batch, torch.float32)
    weights = token_weights(batch.mask, "token_mean")
    gradients = [
        torch.autograd.grad((result.token_loss * weights).sum(), source.policy_logprobs)[0]
        for result, source in ((loss(batch), batch), (loss(wide), wide))
    ]
    assert bitwise_equal(gradients[0], gradients[1].to(dtype))


@pytest.mark.parametrize("loss", ALL)
def test_float64_stays_float64(loss: GRPO) -> None:
    output = loss(drawn(torch.float64))
    assert output.token_loss.dtype == torch.float64
    assert {values.dtype for values in output.diagnostics.values()} == {torch.float64, torch.bool}


@pytest.mark.parametrize("loss", ALL)
def test_float32_is_float64_rounded(loss: GRPO) -> None:
    batch = drawn(torch.float32)
    assert agree(loss(batch).token_loss, loss(widened(batch, torch.float64)).token_loss, "float32_sum")


def test_weights_of_a_long_step_are_float64_on_the_cpu() -> None:
    # float32 sums of millions of weights would not be 1
    weights = token_weights(torch.ones(4, 3, dtype=torch.bool), "token_mean")
    assert weights.dtype == torch.float64


@pytest.mark.parametrize("loss", ALL)
def test_the_wider_of_two_log_probabilities_decides(loss: GRPO) -> None:
    batch = drawn(torch.bfloat16)
    for name in ("policy_logprobs", "old_logprobs"):
        output = loss(replace(batch, **{name: getattr(batch, name).double()}))
        assert bitwise_equal(output.token_loss, loss(widened(batch, torch.float64)).token_loss)


@pytest.mark.parametrize("loss", ALL)
def test_advantages_and_reference_decide_nothing(loss: GRPO) -> None:
    batch = drawn(torch.bfloat16)
    for name in ("advantages", "reference_logprobs"):
        output = loss(replace(batch, **{name: getattr(batch, name).double()}))
        assert bitwise_equal(output.token_loss, loss(batch).token_loss)
