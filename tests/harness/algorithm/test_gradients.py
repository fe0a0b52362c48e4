import copy
import dataclasses

import pytest
import torch

from harness.algorithm.batching import plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.state import make_updater
from harness.algorithm.update import known_logprobs
from harness.model.policy import Policy
from harness.tasks.chain_sum import GRADED
from losses import AVERAGING_MODES, LOSSES
from tests.harness.agreement import agree
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config


@pytest.fixture(scope="module")
def moved_policy(random_policy: Policy) -> Policy:
    """The random policy after a step, so that ratios to it are not 1."""
    moved = dataclasses.replace(random_policy, model=copy.deepcopy(random_policy.model))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in moved.model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    return moved


def gradient_and_record(
    policy: Policy, other: Policy, micro_batch_size: int | None, **changes: object
) -> tuple[torch.Tensor, LossRecord]:
    """The gradient of one optimizer step over four groups, and its record."""
    settings = {"minibatches": 1, "epochs": 2, "beta": 0.1, "grad_clip": 1e9, "micro_batch_size": micro_batch_size}
    config = small_config(**settings | changes)
    policy = dataclasses.replace(policy, model=copy.deepcopy(policy.model))
    (minibatch,) = plan_minibatches(four_groups(policy), policy, GRADED, config)
    (known,) = known_logprobs(other, other, [minibatch], 1.0)
    updater = make_updater(config, policy)
    record = LossRecord(metric_names(updater.loss))
    updater.step(minibatch, known, record)
    gradients = [parameter.grad.flatten() for parameter in policy.model.parameters()]
    return torch.cat(gradients), record


@pytest.mark.parametrize("averaging", AVERAGING_MODES)
@pytest.mark.parametrize("loss_type", LOSSES)
def test_micro_batches_accumulate_to_the_gradient_of_one_batch(
    random_policy: Policy, moved_policy: Policy, loss_type: str, averaging: str
) -> None:
    settings = {"loss_type": loss_type, "averaging": averaging}
    whole, whole_record = gradient_and_record(random_policy, moved_policy, None, **settings)
    parts, parts_record = gradient_and_record(random_policy, moved_policy, 2, **settings)
    assert whole.abs().max() > 0
    assert agree(parts, whole, "network")
    assert agree(parts_record.gradient_norms, whole_record.gradient_norms, "network")
    assert parts_record.means().keys() == whole_record.means().keys()
    assert parts_record.counts == whole_record.counts
    assert parts_record.response_weights.keys() == whole_record.response_weights.keys()


def test_the_three_losses_and_averagings_differ_here(random_policy: Policy, moved_policy: Policy) -> None:
    gradients = [
        gradient_and_record(
            random_policy, moved_policy, None, loss_type=loss_type, averaging=averaging, epsilon_high=0.28
        )[0]
        for loss_type, averaging in [("dapo", "token_mean"), ("fipo", "token_mean"), ("dapo", "sequence_mean")]
    ]
    assert not agree(gradients[0], gradients[1], "network")
    assert not agree(gradients[0], gradients[2], "network")


def test_gradient_is_cut_to_the_clip(random_policy: Policy, moved_policy: Policy) -> None:
    free, free_record = gradient_and_record(random_policy, moved_policy, None, loss_type="dapo")
    cut, cut_record = gradient_and_record(random_policy, moved_policy, None, loss_type="dapo", grad_clip=1e-3)
    assert cut_record.gradient_norms == free_record.gradient_norms  # before clipping
    assert agree(cut / 1e-3, free / free.norm(), "network")
