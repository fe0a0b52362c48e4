"""What masked positions hold is never read, inputs are never written, and no tokens are no loss."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from losses import AVERAGING_MODES, GRPO, LossBatch, sequence_filter, token_weights
from losses.policy_loss import PolicyLoss, Terms
from tests.losses.agreement import bitwise_equal
from tests.losses.drawn import EVERY_LOSS, batches, deterministic, with_gradient

PADDING = [float("nan"), float("inf"), float("-inf"), 1e30]
INPUTS = ("policy_logprobs", "old_logprobs", "advantages", "reference_logprobs")
ONE_OR_ALL = [*((name,) for name in INPUTS), INPUTS]


def padded(batch: LossBatch, value: float, names: tuple[str, ...]) -> LossBatch:
    """The batch with the value at the masked positions of the named inputs."""
    inputs = {name: getattr(batch, name).detach().masked_fill(~batch.mask, value) for name in names}
    return replace(batch, **inputs)


def assert_same_but_for_padding(loss: PolicyLoss, plain: LossBatch, other: LossBatch) -> None:
    """Same losses, diagnostics and gradients, bit by bit; all 0 at masked positions."""
    results = []
    for batch in (plain, other):
        policy = batch.policy_logprobs.detach().clone().requires_grad_()
        output, gradient = with_gradient(loss, replace(batch, policy_logprobs=policy))
        results.append({"loss": output.token_loss, "gradient": gradient} | output.diagnostics)
    for name, expected in results[0].items():
        assert bitwise_equal(results[1][name], expected), name
        assert not results[1][name][~plain.mask].any(), name


@deterministic
@given(batches(), st.sampled_from(EVERY_LOSS), st.sampled_from(PADDING), st.sampled_from(ONE_OR_ALL))
def test_padding_has_no_effect(batch: LossBatch, loss: PolicyLoss, value: float, names: tuple[str, ...]) -> None:
    assert_same_but_for_padding(loss, batch, padded(batch, value, names))


@pytest.mark.parametrize("value", PADDING)
def test_padding_has_no_effect_on_the_sequence_filter(value: float) -> None:
    log_ratio = torch.full((2, 3), 3.0)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]], dtype=torch.bool)
    kept = sequence_filter(log_ratio.masked_fill(~mask, value), -torch.ones(2, 3), mask, 10.0)
    assert bitwise_equal(kept, torch.tensor([[0, 0, 0], [1, 0, 0]], dtype=torch.bool))


@deterministic
@given(batches(), st.sampled_from(EVERY_LOSS))
def test_inputs_are_left_as_they_were(batch: LossBatch, loss: PolicyLoss) -> None:
    batch = replace(batch, influence_weights=torch.full_like(batch.advantages, 1.25))
    before = {field.name: getattr(batch, field.name).detach().clone() for field in fields(batch)}
    loss(batch).token_loss.sum().backward()
    sequence_filter(batch.policy_logprobs.detach() - batch.old_logprobs, batch.advantages, batch.mask, 10.0)
    for mode in AVERAGING_MODES:
        token_weights(batch.mask, mode, 6)
    for name, values in before.items():
        assert bitwise_equal(getattr(batch, name).detach(), values)


@pytest.mark.parametrize("mode", AVERAGING_MODES)
@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_no_tokens_no_loss_and_no_gradient(loss: PolicyLoss, mode: str) -> None:
    # the others: an error from the authors' FIPO, NaN from ms-swift, 0 from TRL
    policy = torch.full((2, 4), float("nan"), requires_grad=True)
    batch = LossBatch(policy, policy.detach(), policy.detach(), torch.zeros(2, 4, dtype=torch.bool), policy.detach())
    output = loss(batch)
    scalar = (output.token_loss * token_weights(batch.mask, mode, 4)).sum()
    scalar.backward()
    assert scalar.item() == 0.0
    assert policy.grad.tolist() == torch.zeros(2, 4).tolist()
    assert all(total.item() == 0.0 and count.item() == 0 for total, count in output.metrics.values())


@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_diagnostics_carry_no_gradient(loss: PolicyLoss) -> None:
    policy = torch.zeros(1, 2, requires_grad=True)
    ones = torch.ones(1, 2)
    output = loss(LossBatch(policy, -ones, ones, ones.bool(), -ones))
    assert output.token_loss.requires_grad
    assert not any(values.requires_grad for values in output.diagnostics.values())


def test_batches_and_outputs_cannot_be_changed() -> None:
    batch = LossBatch(*(torch.zeros(1, 2),) * 3, torch.ones(1, 2, dtype=torch.bool))
    for frozen in (batch, GRPO()(batch), Terms(*(batch.advantages,) * 4, batch.mask, None)):
        with pytest.raises(FrozenInstanceError):
            frozen.mask = ~batch.mask
