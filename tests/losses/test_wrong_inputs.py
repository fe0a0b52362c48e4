"""Inputs that would give a wrong number without a word are refused, and none but the policy gets a gradient."""

from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from losses import (
    DAPO,
    FIPO,
    GRPO,
    LossBatch,
    future_kl,
    group_advantages,
    mask_totals,
    token_weights,
)
from losses.parts.discounted_sum import block_weights
from tests.losses.agreement import bitwise_equal

ONES = torch.ones(3, 3)
MASK = ONES.bool()


@pytest.fixture
def as_outside_of_tests() -> Iterator[None]:
    """Shapes in types are checked here alone; a user has the losses' own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_outside_of_tests")
@pytest.mark.parametrize("name", ["old_logprobs", "advantages", "mask", "reference_logprobs", "influence_weights"])
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    names = ("policy_logprobs", "old_logprobs", "advantages", "reference_logprobs", "influence_weights")
    inputs = dict.fromkeys(names, ONES) | {"mask": MASK}
    for part in (inputs[name][:1], inputs[name][:, :1], inputs[name][0]):
        with pytest.raises(ValueError, match=r"one shape \[sequence, token\], got \(3, 3\) and"):
            LossBatch(**inputs | {name: part})


@pytest.mark.usefixtures("as_outside_of_tests")
def test_a_batch_has_two_dimensions_and_a_boolean_mask() -> None:
    with pytest.raises(ValueError, match=r"one shape \[sequence, token\], got \(3,\)"):
        LossBatch(ONES[0], ONES[0], ONES[0], MASK[0])
    with pytest.raises(ValueError, match=r"expected a boolean mask, got torch\.int64: pass mask\.bool\(\)"):
        LossBatch(ONES, ONES, ONES, MASK.long())


@pytest.mark.usefixtures("as_outside_of_tests")
def test_totals_are_a_sum() -> None:
    totals = torch.stack([mask_totals(MASK), mask_totals(MASK)])
    with pytest.raises(ValueError, match=r"expected the sum of all mask_totals, got a tensor of shape \(2, 2\)"):
        token_weights(MASK, "token_mean", totals=totals)
    assert bitwise_equal(token_weights(MASK, "token_mean", totals=totals.sum(dim=0)).sum(), torch.tensor(0.5).double())


@pytest.mark.parametrize("limit", [None, 0, -3])
def test_a_constant_divisor_is_a_number_of_tokens(limit: int | None) -> None:
    with pytest.raises(ValueError, match=f"divides by max_response_tokens, got {limit}: pass the response limit"):
        token_weights(MASK, "constant", limit)


@pytest.mark.parametrize(
    ("decay_rate", "delta"), [(0.0, None), (-5.0, None), (float("inf"), 1.0), (float("nan"), None), (1.0, 0.0)]
)
def test_future_kl_wants_a_half_life_and_a_ratio(decay_rate: float, delta: float | None) -> None:
    with pytest.raises(ValueError, match="expected a decay_rate and a delta above 0, got"):
        future_kl(ONES, MASK, decay_rate, delta)


@pytest.mark.usefixtures("as_outside_of_tests")
def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be one of group, batch, none, got 'grp'"):
        group_advantages(ONES[0], torch.zeros(3).long(), scale="grp")


@pytest.mark.parametrize("loss", [GRPO(beta=0.1), DAPO(beta=0.1), FIPO(beta=0.1)])
def test_only_the_policy_gets_a_gradient(loss: GRPO) -> None:
    policy, old, advantages, reference = (value * ONES.clone().requires_grad_() for value in (-1.0, -1.1, 1.0, -1.2))
    inputs = [policy, old, advantages, reference]
    output = loss(LossBatch(policy, old, advantages, MASK, reference))
    gradients = torch.autograd.grad(output.token_loss.sum(), inputs, allow_unused=True)
    assert [gradient is None for gradient in gradients] == [False, True, True, True]
    # the same tensor twice is the commonest slip: its gradient is that of the policy's side alone
    slip = loss(LossBatch(policy, policy, advantages, MASK, reference))
    plain = loss(LossBatch(policy, policy.detach(), advantages, MASK, reference))
    gradient, expected = (torch.autograd.grad(o.token_loss.sum(), policy)[0] for o in (slip, plain))
    assert bitwise_equal(gradient, expected)
    assert gradient.any()


def test_tracing_leaves_nothing_behind() -> None:
    def run() -> Tensor:
        ones = torch.ones(2, 300)
        return FIPO(decay_rate=7.25)(LossBatch(ones, 1.1 * ones, ones, ones.bool())).token_loss

    with FakeTensorMode():
        assert run().shape == (2, 300)
    assert run().isfinite().all()
    kept = block_weights.cache_info().hits
    run()
    assert block_weights.cache_info().hits > kept
