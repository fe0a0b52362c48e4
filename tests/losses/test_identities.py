"""What the losses have in common, exactly, so that an ablation changes only what it names; and their gradients."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from losses import DAPO, FIPO, GRPO, LOSSES, LossBatch, token_weights
from losses.policy_loss import PolicyLoss
from tests.losses.agreement import agree, bitwise_equal
from tests.losses.drawn import EVERY_LOSS, batches, deterministic, with_gradient


def assert_same(batch: LossBatch, first: GRPO, second: GRPO) -> None:
    """Two losses give the same token losses and gradients, bit by bit."""
    (one, gradient), (other, expected) = with_gradient(first, batch), with_gradient(second, batch)
    assert bitwise_equal(one.token_loss, other.token_loss)
    assert bitwise_equal(gradient, expected)


def grpo_as_written(batch: LossBatch, epsilon: float) -> float:
    """DeepSeekMath eq. 3 without KL, negated, as sums over responses and tokens."""
    ratios = (batch.policy_logprobs - batch.old_logprobs).detach().exp()
    responses = []
    for row in range(len(batch.mask)):
        terms = []
        for token in range(batch.mask.shape[1]):
            if batch.mask[row, token]:
                ratio, advantage = float(ratios[row, token]), float(batch.advantages[row, token])
                clipped = min(max(ratio, 1 - epsilon), 1 + epsilon)
                terms.append(min(ratio * advantage, clipped * advantage))
        if terms:
            responses.append(sum(terms) / len(terms))
    return -sum(responses) / len(responses) if responses else 0.0


@deterministic
@given(batches())
def test_dapo_with_equal_bounds_sequence_mean_and_no_dual_clip_is_grpo(batch: LossBatch) -> None:
    dapo, grpo = DAPO(epsilon_low=0.2, epsilon_high=0.2, delta=None, beta=0.0), GRPO(beta=0.0)
    assert_same(batch, dapo, grpo)
    scalar = (dapo(batch).token_loss * token_weights(batch.mask, "sequence_mean")).sum()
    written = torch.tensor([grpo_as_written(batch, 0.2), 1.0], dtype=torch.float64)
    assert agree(torch.stack([scalar, written[1]]), written, "float64_sum")


@deterministic
@given(batches(torch.float32), st.booleans(), st.sampled_from([None, 10.0]))
def test_fipo_with_every_weight_1_is_dapo(batch: LossBatch, clip_high_only: bool, delta: float | None) -> None:
    # in float32 both 1 - 1e-12 and 1 + 1e-12 are 1
    fipo = FIPO(clip_range=1e-12, clip_high_only=clip_high_only, delta=delta, epsilon_high=0.28)
    assert_same(batch, fipo, DAPO(delta=delta, epsilon_high=0.28))
    assert (fipo(batch).diagnostics["influence_weight"] == batch.mask).all()


@deterministic
@given(batches(), st.sampled_from([None, 0.2]), st.booleans(), st.sampled_from([None, 10.0]))
def test_at_ratio_1_fipo_is_dapo_and_both_are_the_policy_gradient(
    batch: LossBatch, clip_range: float | None, clip_high_only: bool, delta: float | None
) -> None:
    batch = replace(batch, old_logprobs=batch.policy_logprobs.detach().clone())
    fipo = FIPO(clip_range=clip_range, clip_high_only=clip_high_only, delta=delta)
    assert_same(batch, fipo, DAPO(delta=delta))
    diagnostics = fipo(batch).diagnostics
    assert (diagnostics["influence_weight"] == batch.mask).all()
    for name in ("influence_weight_at_low", "influence_weight_at_high", "clip_fraction_low", "clip_fraction_high"):
        assert not diagnostics[name].any()
    plain = -(batch.advantages * token_weights(batch.mask, "token_mean"))
    assert agree(with_gradient(fipo, batch)[1], plain, "exact")


@deterministic
@given(batches(), st.sampled_from(["grpo", "dapo", "fipo"]))
def test_beta_adds_the_same_kl_to_every_loss(batch: LossBatch, name: str) -> None:
    without, kl_alone = LOSSES[name]()(batch), GRPO(beta=1.0)(replace(batch, advantages=0 * batch.advantages))
    output = LOSSES[name](beta=0.5)(batch)
    assert agree(output.token_loss, without.token_loss + 0.5 * kl_alone.token_loss, "float64_sum")
    assert bitwise_equal(output.diagnostics["kl_to_reference"], kl_alone.token_loss.detach())


@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_responses_do_not_see_each_other(loss: PolicyLoss) -> None:
    generator = torch.Generator().manual_seed(1)
    # 16 tokens: every CPU computes whole vectors, and no rest of a vector, which can have other last bits
    policy, old, advantages, reference = (torch.randn(3, 16, generator=generator) for _ in range(4))
    mask = torch.rand(3, 16, generator=generator) > 0.2
    whole = loss(LossBatch(policy, old, advantages, mask, reference))
    for row in range(3):
        part = slice(row, row + 1)
        alone = loss(LossBatch(policy[part], old[part], advantages[part], mask[part], reference[part]))
        assert bitwise_equal(alone.token_loss, whole.token_loss[part])


# Influence weights that are handed over: FIPO uses them in the place of its own, the others have none.
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
@given(batches(), st.sampled_from([name for name in LOSSES if name != "fipo"]))
def test_given_weights_replace_all_that_another_loss_multiplies_its_gradient_with(batch: LossBatch, name: str) -> None:
    weights = weights_like(batch)
    policy = batch.policy_logprobs.detach().requires_grad_()
    weighted = LOSSES[name]()(replace(batch, policy_logprobs=policy, influence_weights=weights))
    weighted.token_loss.sum().backward()
    assert policy.grad is not None
    assert bitwise_equal(policy.grad, torch.where(batch.mask, -batch.advantages * weights, 0.0))


def test_given_weights_carry_no_gradient_and_are_not_read_where_masked() -> None:
    policy = torch.full((1, 3), -1.0, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([[1.5, 0.5, float("nan")]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    batch = LossBatch(policy, policy.detach(), torch.ones_like(policy.detach()), mask, None, weights)
    FIPO(**CLIP)(batch).token_loss.sum().backward()
    assert weights.grad is None
    assert policy.grad is not None
    assert policy.grad.tolist() == [[-1.5, -0.5, 0.0]]


STEP = 1e-6
SMOOTH = [
    GRPO(beta=0.5),
    GRPO(beta=0.04, log_ratio_clamp=2.0),
    DAPO(epsilon_low=0.3, epsilon_high=0.4),
    DAPO(epsilon_high=0.28, delta=3.0, beta=0.04),
]


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
