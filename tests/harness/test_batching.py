import pytest
import torch

from harness.batching import MicroBatch, advantages_of, plan_minibatches
from harness.chain_sum import GRADED
from harness.policy import Policy
from harness.rollouts import Group
from tests.harness.agreement import agree
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config


@pytest.fixture
def groups(random_policy: Policy) -> list[Group]:
    return four_groups(random_policy)


def planned(groups: list[Group], policy: Policy, **changes: object) -> list[list[MicroBatch]]:
    return plan_minibatches(groups, policy, GRADED, small_config(**changes))


def prompts(minibatch: list[MicroBatch]) -> list[str]:
    return [response.problem.prompt for batch in minibatch for response in batch.responses]


@pytest.mark.parametrize(("minibatches", "groups_in_each"), [(1, [4]), (2, [2, 2]), (4, [1, 1, 1, 1])])
def test_minibatches_hold_whole_groups_in_order(
    groups: list[Group], random_policy: Policy, minibatches: int, groups_in_each: list[int]
) -> None:
    plan = planned(groups, random_policy, minibatches=minibatches)
    rest = iter(groups)
    expected = [[response.problem.prompt for _ in range(n) for response in next(rest)] for n in groups_in_each]
    assert [prompts(minibatch) for minibatch in plan] == expected


@pytest.mark.parametrize(("kept", "groups_in_each"), [(3, [2, 1]), (1, [1]), (0, [])])
def test_an_unfilled_batch_makes_smaller_or_fewer_minibatches(
    groups: list[Group], random_policy: Policy, kept: int, groups_in_each: list[int]
) -> None:
    plan = planned(groups[:kept], random_policy)
    assert [len(set(prompts(minibatch))) for minibatch in plan] == groups_in_each


@pytest.mark.parametrize("micro_batch_size", [None, 1, 2, 8])
def test_micro_batches_hold_the_minibatch_in_order(
    groups: list[Group], random_policy: Policy, micro_batch_size: int | None
) -> None:
    plan = planned(groups, random_policy, micro_batch_size=micro_batch_size)
    assert [len(minibatch) for minibatch in plan] == [8 // (micro_batch_size or 8)] * 2
    whole = planned(groups, random_policy)
    assert [prompts(minibatch) for minibatch in plan] == [prompts(minibatch) for minibatch in whole]


def test_every_token_has_its_responses_advantage(groups: list[Group], random_policy: Policy) -> None:
    # rewards 1, -1, 1, -1.5: mean -0.125, and the standard deviation of the four with n - 1
    deviations = torch.tensor([1.125, -0.875, 1.125, -1.375], dtype=torch.float64)
    expected = deviations / (deviations.square().sum() / 3).sqrt()
    advantages = advantages_of(groups, small_config(advantage_std_eps=0.0))
    assert agree(advantages, expected.repeat(4), "float64")
    batches = [batch for part in planned(groups, random_policy, micro_batch_size=2) for batch in part]
    for batch in batches:
        for row, response in enumerate(batch.responses):
            length = len(response.tokens)
            assert agree(batch.advantages[row, :length], expected[response.sample].expand(length), "network")
            assert not batch.advantages[row, length:].any()


def test_micro_batches_are_no_wider_than_their_responses(groups: list[Group], random_policy: Policy) -> None:
    for minibatch in planned(groups, random_policy, micro_batch_size=1):
        for batch in minibatch:
            assert batch.tokens.mask.shape == (1, len(batch.responses[0].tokens))
            assert batch.advantages.shape == batch.tokens.mask.shape
