"""What comes in bfloat16 is computed in float32, what comes in float64 stays there, whatever products may round."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from losses import DAPO, FIPO, GRPO, LossBatch, future_kl
from losses.parts.discounted_sum import discounted_future_sum
from tests.losses.agreement import agree, bitwise_equal
from tests.losses.drawn import with_gradient

HALF = [torch.bfloat16, torch.float16]
ALL = [GRPO(beta=0.04), DAPO(delta=10.0), FIPO(delta=10.0, clip_range=None)]

each_loss = pytest.mark.parametrize("loss", ALL)


def drawn(dtype: torch.dtype) -> LossBatch:
    """Log-probabilities rounded to the dtype."""
    generator = torch.Generator().manual_seed(8)
    old, shift, advantages, reference = (torch.randn(3, 300, generator=generator) for _ in range(4))
    mask = torch.rand(3, 300, generator=generator) > 0.1
    policy = (old + 0.1 * shift).to(dtype).requires_grad_()
    return LossBatch(policy, old.to(dtype), advantages.to(dtype), mask, reference.to(dtype))


def widened(batch: LossBatch, dtype: torch.dtype) -> LossBatch:
    """The same rounded numbers in a wider dtype."""
    policy = batch.policy_logprobs.detach().to(dtype).requires_grad_()
    old, advantages, reference = (
        values.to(dtype) for values in (batch.old_logprobs, batch.advantages, batch.reference_logprobs)
    )
    return LossBatch(policy, old, advantages, batch.mask, reference)


@pytest.mark.parametrize("decay_rate", [128.0, 256.0])
@pytest.mark.parametrize(("dtype", "autocast"), [*((half, False) for half in HALF), (torch.float32, True)])
def test_gamma_is_not_rounded(dtype: torch.dtype, autocast: bool, decay_rate: float) -> None:
    # 2^(-1/128) = 0.9946 and 2^(-1/256) = 0.9973: bfloat16, whose step below 1 is 0.0039, hardly tells them apart
    gamma = 2 ** (-1 / decay_rate)
    log_ratio = torch.full((1, 512), 0.01, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        future = future_kl(log_ratio, torch.ones(1, 512, dtype=torch.bool), decay_rate)
    assert future.dtype == torch.float32
    assert agree(future[0, 0], log_ratio[0, 0].double() * (1 - gamma**512) / (1 - gamma), "float32")


@pytest.mark.parametrize("dtype", HALF)
@each_loss
def test_half_precision_is_computed_in_float32_and_its_gradient_rounded_once(loss: GRPO, dtype: torch.dtype) -> None:
    batch = drawn(dtype)
    (output, gradient), (expected, wide) = (
        with_gradient(loss, each) for each in (batch, widened(batch, torch.float32))
    )
    assert bitwise_equal(output.token_loss, expected.token_loss)
    for name, values in expected.diagnostics.items():
        assert bitwise_equal(output.diagnostics[name], values)
    assert bitwise_equal(gradient, wide.to(dtype))


@each_loss
def test_float64_stays_float64_and_float32_is_float64_rounded(loss: GRPO) -> None:
    output = loss(drawn(torch.float64))
    assert output.token_loss.dtype == torch.float64
    assert {values.dtype for values in output.diagnostics.values()} == {torch.float64, torch.bool}
    batch = drawn(torch.float32)
    assert agree(loss(batch).token_loss, loss(widened(batch, torch.float64)).token_loss, "float32_sum")


@each_loss
def test_the_wider_of_two_log_probabilities_decides_and_nothing_else(loss: GRPO) -> None:
    batch = drawn(torch.bfloat16)
    for name, expected in (
        ("policy_logprobs", widened(batch, torch.float64)),
        ("old_logprobs", widened(batch, torch.float64)),
        ("advantages", batch),
        ("reference_logprobs", batch),
    ):
        output = loss(replace(batch, **{name: getattr(batch, name).double()}))
        assert bitwise_equal(output.token_loss, loss(expected).token_loss), name


SHIFTS = torch.randn(5, 300, generator=torch.Generator().manual_seed(9))
IN_FLOAT64 = discounted_future_sum(SHIFTS.double(), 32.0).float()


@contextmanager
def product_precision(precision: str) -> Iterator[None]:
    """Let float32 products round their factors, and take it back."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = precision
    try:
        yield
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


def test_products_are_float64_where_float32_ones_are_rounded() -> None:
    # whether a processor does round depends on the processor; that we do not rely on it does not
    for precision in ("bf16", "tf32"):
        with product_precision(precision):
            assert bitwise_equal(discounted_future_sum(SHIFTS, 32.0), IN_FLOAT64)
    with torch.autocast("cpu", torch.bfloat16):
        assert (SHIFTS @ SHIFTS.T).dtype == torch.bfloat16
        assert bitwise_equal(discounted_future_sum(SHIFTS, 32.0), IN_FLOAT64)


@pytest.mark.parametrize("precision", ["ieee", "none"])
def test_products_are_plain_elsewhere(precision: str) -> None:
    with product_precision(precision):
        total = discounted_future_sum(SHIFTS, 32.0)
        assert total.dtype == torch.float32
        assert not bitwise_equal(total, IN_FLOAT64)
        assert agree(total, IN_FLOAT64, "float32_sum")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@each_loss
def test_autocast_changes_neither_loss_nor_gradient(loss: GRPO, dtype: torch.dtype) -> None:
    batch = drawn(dtype)
    plain, gradient = with_gradient(loss, batch)
    with torch.autocast("cpu", torch.bfloat16):
        output, cast = with_gradient(loss, batch)
    assert output.token_loss.dtype == torch.float32
    assert agree(output.token_loss, plain.token_loss, "float32_sum")
    assert agree(cast, gradient, "float32_sum" if dtype == torch.float32 else "exact")


def test_given_influence_weights_take_the_dtype_of_the_log_probabilities() -> None:
    batch = drawn(torch.float32)
    given = replace(batch, influence_weights=torch.ones(batch.mask.shape, dtype=torch.float64))
    assert given.widened().influence_weights.dtype == torch.float32
