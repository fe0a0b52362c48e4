"""The authors' sequence filter in an optimizer step: what it drops leaves numerator and denominator."""

import copy
import dataclasses
import math

import pytest
import torch

from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.state import make_ledger, make_updater
from harness.algorithm.update import KnownLogprobs, known_logprobs
from harness.errors import UsageError
from harness.model.packing import pack_batch
from harness.model.policy import Policy
from harness.rollouts.collect import Rollouts
from harness.tasks.chain_sum import GRADED
from losses import AVERAGING_MODES, LOSSES, sequence_filter
from tests.harness.agreement import agree
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config

DELTA = 1.5


def lowered(known: list[KnownLogprobs]) -> list[KnownLogprobs]:
    """Old log-probabilities under which every other token of the second response to each prompt has a ratio of 2."""
    result, row = [], 0
    for one in known:
        shift = torch.zeros_like(one.old)
        second = (torch.arange(row, row + len(one.old)) % 4 == 1).nonzero()
        shift[second, ::2] = math.log(2.0)
        result.append(KnownLogprobs(one.old - shift, None))
        row += len(one.old)
    return result


def stepped(
    policy: Policy, minibatch: list[MicroBatch], known: list[KnownLogprobs], **changes: object
) -> tuple[torch.Tensor, LossRecord]:
    """The gradient of one optimizer step, and its record."""
    config = small_config(delta=DELTA, grad_clip=1e9, allow_inert=True, **changes)
    policy = dataclasses.replace(policy, model=copy.deepcopy(policy.model))
    updater = make_updater(config, policy)
    record = LossRecord(metric_names(updater.loss))
    updater.step(minibatch, known, record)
    return torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()]), record


def planned(policy: Policy, micro_batch_size: int | None) -> list[MicroBatch]:
    config = small_config(minibatches=1, micro_batch_size=micro_batch_size)
    (minibatch,) = plan_minibatches(four_groups(policy), policy, GRADED, config)
    return minibatch


def rows_of(batch: MicroBatch, known: KnownLogprobs, rows: torch.Tensor) -> tuple[MicroBatch, KnownLogprobs]:
    """Some responses of a micro-batch."""
    responses = [batch.responses[row] for row in rows.tolist()]
    tokens = pack_batch([r.prompt_tokens for r in responses], [r.tokens for r in responses], batch.tokens.mask.device)
    width = tokens.drawn.shape[1]
    tokens = dataclasses.replace(tokens, mask=batch.tokens.mask[rows, :width])
    return MicroBatch(responses, tokens, batch.advantages[rows, :width]), KnownLogprobs(
        known.old[rows, :width], None if known.reference is None else known.reference[rows, :width]
    )


@pytest.mark.parametrize("averaging", AVERAGING_MODES)
@pytest.mark.parametrize("loss_type", LOSSES)
def test_a_step_is_that_of_the_kept_responses_alone(random_policy: Policy, loss_type: str, averaging: str) -> None:
    (batch,) = planned(random_policy, None)
    (plain,) = known_logprobs(random_policy, None, [[batch]], 1.0)
    (known,) = lowered(plain)
    kept = sequence_filter(plain[0].old - known.old, batch.advantages, batch.tokens.mask, DELTA).any(dim=1)
    assert 0 < kept.sum() < len(kept)
    settings = {"loss_type": loss_type, "averaging": averaging}
    filtered, record = stepped(random_policy, [batch], [known], sequence_filter=True, **settings)
    part, part_known = rows_of(batch, known, kept.nonzero().squeeze(1))
    alone, _ = stepped(random_policy, [part], [part_known], **settings)
    assert agree(filtered, alone, "network")
    assert record.means()["filtered_responses"] == (~kept).double().mean().item()
    assert record.counts["token_loss"] == part.tokens.mask.sum().item()
    if loss_type == "fipo":
        assert record.response_weights.keys() == {response.key for response in part.responses}


@pytest.mark.parametrize("micro_batch_size", [1, 4, 8])
def test_micro_batches_do_not_change_what_is_filtered(random_policy: Policy, micro_batch_size: int) -> None:
    gradients = []
    for size in (None, micro_batch_size):
        minibatch = planned(random_policy, size)
        plain = known_logprobs(random_policy, None, [minibatch], 1.0)[0]
        gradients.append(stepped(random_policy, minibatch, lowered(plain), loss_type="fipo", sequence_filter=True)[0])
    assert agree(gradients[1], gradients[0], "network")


def test_a_step_of_which_nothing_is_kept_has_no_gradient(random_policy: Policy) -> None:
    (batch,) = planned(random_policy, None)
    batch = dataclasses.replace(batch, advantages=-torch.ones_like(batch.advantages))
    (plain,) = known_logprobs(random_policy, None, [[batch]], 1.0)
    long_rows = (batch.tokens.mask.sum(dim=1) > 1).nonzero().squeeze(1)
    part, known = rows_of(batch, KnownLogprobs(plain[0].old - 1.0, None), long_rows)
    gradient, record = stepped(random_policy, [part], [known], loss_type="fipo", sequence_filter=True)
    assert not gradient.any()
    assert record.means()["filtered_responses"] == 1.0
    assert record.means()["token_loss"] is None


@pytest.mark.parametrize("changes", [{"beta": 0.1}, {"control": "blame"}])
def test_what_is_dropped_has_no_kl_and_takes_no_blame(random_policy: Policy, changes: dict[str, object]) -> None:
    # the authors count the KL of a dropped response; here what is dropped is dropped
    config = small_config(minibatches=1, **changes)
    ((batch,),) = plan_minibatches(four_groups(random_policy), random_policy, GRADED, config)
    (plain,) = known_logprobs(random_policy, random_policy, [[batch]], 1.0)
    with_reference = [KnownLogprobs(one.old, ours.reference) for one, ours in zip(lowered(plain), plain, strict=True)]
    # at a ratio of 2 only tokens with A < 0 count, so blame decides what is dropped
    kept = sequence_filter(plain[0].old - with_reference[0].old, batch.advantages, batch.tokens.mask, DELTA).any(dim=1)
    part, known = rows_of(batch, with_reference[0], kept.nonzero().squeeze(1))
    settings = {"loss_type": "fipo", "averaging": "token_mean"} | changes
    filtered, record = stepped(random_policy, [batch], with_reference, sequence_filter=True, **settings)
    alone, _ = stepped(random_policy, [part], [known], **settings)
    assert agree(filtered, alone, "network")
    assert record.means()["filtered_responses"] == (~kept).double().mean().item()


def test_without_delta_it_is_refused() -> None:
    with pytest.raises(UsageError, match="--sequence_filter true needs --delta, got none"):
        small_config(sequence_filter=True)


def test_the_ledger_counts_what_was_trained_and_every_pass(random_policy: Policy) -> None:
    groups = four_groups(random_policy)
    kept = [response for group in groups for response in group]
    record = LossRecord(["token_loss"], counts={"token_loss": 17.0})
    config = small_config(epochs=2, beta=0.1, sequence_filter=True, delta=DELTA)
    ledger, plain = make_ledger(config, random_policy), make_ledger(small_config(epochs=2), random_policy)
    for one in (ledger, plain):
        one.add(Rollouts([groups], groups, 0), record)
    assert ledger.trained_tokens == plain.trained_tokens == 17
    rows = sum(len(response.prompt_tokens) + len(response.tokens) for response in kept)
    # a pass for the reference, and one before each of the two epochs' updates for the filter
    assert ledger.flops - plain.flops == 3 * 2.0 * rows * ledger.parameters
