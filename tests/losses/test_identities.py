"""What the three algorithms have in common, exactly: the proof that an ablation changes only what it names."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from losses import DAPO, FIPO, GRPO, LOSSES, LossBatch, LossOutput, token_weights
from tests.losses.agreement import agree, bitwise_equal
from tests.losses.drawn import batches, deterministic

ALL = [GRPO(), GRPO(beta=0.04), DAPO(epsilon_high=0.28, delta=10.0), FIPO(), FIPO(delta=10.0, clip_range=None)]


def gradient(batch: LossBatch, output: LossOutput, mode: str = "token_mean") -> Tensor:
    """The gradient of the averaged loss."""
    scalar = (output.token_loss * token_weights(batch.mask, mode, 6)).sum()
    return torch.autograd.grad(scalar, batch.policy_logprobs)[0]


def assert_same(batch: LossBatch, first: GRPO, second: GRPO) -> None:
    """Two losses give the same token losses and gradients, bit by bit."""
    one, other = first(batch), second(batch)
    assert bitwise_equal(one.token_loss, other.token_loss)
    assert bitwise_equal(gradient(batch, one), gradient(batch, other))


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
    assert agree(gradient(batch, fipo(batch)), plain, "exact")


@deterministic
@given(batches(), st.sampled_from([loss for loss in ALL if loss.beta == 0]))
def test_doubled_advantages_double_the_loss(batch: LossBatch, loss: GRPO) -> None:
    once, twice = loss(batch), loss(replace(batch, advantages=2 * batch.advantages))
    assert bitwise_equal(twice.token_loss, 2 * once.token_loss)
    assert bitwise_equal(gradient(batch, twice), 2 * gradient(batch, once))


@deterministic
@given(batches(), st.sampled_from(ALL))
def test_no_advantage_no_loss(batch: LossBatch, loss: GRPO) -> None:
    output = replace(loss, beta=0.0)(replace(batch, advantages=torch.zeros_like(batch.advantages)))
    assert not output.token_loss.any()
    assert not gradient(batch, output).any()


@deterministic
@given(batches(), st.sampled_from(["grpo", "dapo", "fipo"]))
def test_beta_adds_the_same_kl_to_every_loss(batch: LossBatch, name: str) -> None:
    without, kl_alone = LOSSES[name]()(batch), GRPO(beta=1.0)(replace(batch, advantages=0 * batch.advantages))
    output = LOSSES[name](beta=0.5)(batch)
    assert agree(output.token_loss, without.token_loss + 0.5 * kl_alone.token_loss, "float64_sum")
    assert bitwise_equal(output.diagnostics["kl_to_reference"], kl_alone.token_loss.detach())


@deterministic
@given(batches(), st.sampled_from(ALL), st.sampled_from(["token_mean", "sequence_mean", "constant"]))
def test_a_tokens_gradient_is_that_of_its_own_loss(batch: LossBatch, loss: GRPO, mode: str) -> None:
    # the Future-KL ties tokens together, but without gradient
    output = loss(batch)
    (own,) = torch.autograd.grad(output.token_loss.sum(), batch.policy_logprobs, retain_graph=True)
    assert agree(gradient(batch, output, mode), own * token_weights(batch.mask, mode, 6), "float64")


@pytest.mark.parametrize("loss", ALL)
def test_responses_do_not_see_each_other(loss: GRPO) -> None:
    generator = torch.Generator().manual_seed(1)
    policy, old, advantages, reference = (torch.randn(3, 7, generator=generator) for _ in range(4))
    mask = torch.rand(3, 7, generator=generator) > 0.2
    whole = loss(LossBatch(policy, old, advantages, mask, reference))
    for row in range(3):
        part = slice(row, row + 1)
        alone = loss(LossBatch(policy[part], old[part], advantages[part], mask[part], reference[part]))
        assert bitwise_equal(alone.token_loss, whole.token_loss[part])
