"""Where matrix products are allowed to round their factors, the Future-KL is not."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from losses import DAPO, FIPO, GRPO, LossBatch, future_kl, token_weights
from losses.discounted_sum import BLOCK, block_weights, discounted_future_sum
from tests.losses.agreement import agree, bitwise_equal

PRECISIONS = ["bf16", "tf32"]
ALL = [GRPO(beta=0.04), DAPO(delta=10.0), FIPO(delta=10.0, clip_range=None)]


@contextmanager
def product_precision(precision: str) -> Iterator[None]:
    """Let float32 products round their factors, and take it back."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = precision
    try:
        yield
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


def drawn(dtype: torch.dtype = torch.float32) -> LossBatch:
    generator = torch.Generator().manual_seed(8)
    old, shift, advantages, reference = (torch.randn(3, 300, generator=generator) for _ in range(4))
    mask = torch.rand(3, 300, generator=generator) > 0.1
    policy = (old + 0.1 * shift).to(dtype).requires_grad_()
    return LossBatch(policy, old.to(dtype), advantages.to(dtype), mask, reference.to(dtype))


def shifts() -> Tensor:
    return torch.randn(5, 300, generator=torch.Generator().manual_seed(9))


def in_float64() -> Tensor:
    return discounted_future_sum(shifts().double(), 32.0).float()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_are_float64_where_float32_ones_are_rounded(precision: str) -> None:
    # whether a processor does round depends on the processor; that we do not rely on it does not
    with product_precision(precision):
        assert bitwise_equal(discounted_future_sum(shifts(), 32.0), in_float64())


def test_products_are_float64_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert (shifts() @ shifts().T).dtype == torch.bfloat16
        assert bitwise_equal(discounted_future_sum(shifts(), 32.0), in_float64())


@pytest.mark.parametrize("precision", ["ieee", "none"])
def test_products_are_plain_elsewhere(precision: str) -> None:
    with product_precision(precision):
        total = discounted_future_sum(shifts(), 32.0)
        assert total.dtype == torch.float32
        assert not bitwise_equal(total, in_float64())
        assert agree(total, in_float64(), "float32_sum")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss", ALL)
def test_autocast_changes_neither_loss_nor_gradient(loss: GRPO, dtype: torch.dtype) -> None:
    batch = drawn(dtype)
    weights = token_weights(batch.mask, "token_mean")
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = loss(batch)
            (gradient,) = torch.autograd.grad((output.token_loss * weights).sum(), batch.policy_logprobs)
        results.append((output.token_loss, gradient))
    assert results[1][0].dtype == torch.float32
    assert agree(results[1][0], results[0][0], "float32_sum")
    assert agree(results[1][1], results[0][1], "float32_sum" if dtype == torch.float32 else "exact")


@pytest.mark.parametrize("decay_rate", [128.0, 256.0])
def test_gamma_is_not_rounded_under_autocast(decay_rate: float) -> None:
    # 2^(-1/128) = 0.9946 and 2^(-1/256) = 0.9973: bfloat16, whose step below 1 is 0.0039, hardly tells them apart
    gamma = 2 ** (-1 / decay_rate)
    log_ratio = torch.full((1, 512), 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        future = future_kl(log_ratio, torch.ones(1, 512, dtype=torch.bool), decay_rate)
    assert future.dtype == torch.float32
    assert agree(future[0, 0], log_ratio[0, 0].double() * (1 - gamma**512) / (1 - gamma), "float32")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_a_block_have_the_dtype_of_what_they_weigh(dtype: torch.dtype) -> None:
    assert [weights.dtype for weights in block_weights(BLOCK, 32.0, dtype, torch.device("cpu"))] == [dtype, dtype]
