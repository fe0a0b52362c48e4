import itertools

import pytest
import torch

from harness.algorithm.batching import MicroBatch, group_relative, plan_minibatches, text_tokens
from harness.algorithm.noise import checked_noise
from harness.algorithm.state import make_updater
from harness.algorithm.update import known_logprobs
from harness.backends.ranks import Ranks
from harness.model.policy import Policy
from harness.rollouts.collect import Group, Response
from harness.tasks.chain_sum import GRADED
from tests.harness.agreement import agree
from tests.harness.algorithm.test_sequence_filter import rows_of, stepped
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config


@pytest.fixture
def groups(random_policy: Policy) -> list[Group]:
    return four_groups(random_policy)


def planned(groups: list[Group], policy: Policy, **changes: object) -> list[list[MicroBatch]]:
    return plan_minibatches(groups, policy, GRADED, small_config(**changes))


def responses_of(minibatch: list[MicroBatch]) -> list[Response]:
    return [response for batch in minibatch for response in batch.responses]


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


@pytest.mark.parametrize("budget", [1, 60, 100, 10_000])
def test_micro_batches_by_tokens_are_filled_by_length(groups: list[Group], random_policy: Policy, budget: int) -> None:
    plan = planned(groups, random_policy, micro_batch_tokens=budget)
    whole = planned(groups, random_policy)
    for minibatch, all_at_once in zip(plan, whole, strict=True):
        lengths = [[text_tokens(response) for response in batch.responses] for batch in minibatch]
        assert all(sum(part) <= budget or len(part) == 1 for part in lengths)
        assert all(sum(part) + after[0] > budget for part, after in itertools.pairwise(lengths))
        flat = [length for part in lengths for length in part]
        assert flat == sorted(flat, reverse=True)
        assert sorted(map(id, responses_of(minibatch))) == sorted(map(id, responses_of(all_at_once)))


def test_ranks_share_micro_batches_by_tokens_and_have_equally_many(groups: list[Group], random_policy: Policy) -> None:
    config = small_config(micro_batch_tokens=60)
    alone = planned(groups, random_policy, micro_batch_tokens=60)
    of_ranks = [
        plan_minibatches(groups, random_policy, GRADED, config, Ranks(rank, 2, lambda value: [value]))
        for rank in range(2)
    ]
    for whole, first, second in zip(alone, *of_ranks, strict=True):
        assert len(first) == len(second)
        shared = [part.responses for pair in zip(first, second, strict=True) for part in pair]
        assert [part for part in shared if part] == [batch.responses for batch in whole]


def test_the_gradient_is_the_same_however_responses_are_packed(groups: list[Group], random_policy: Policy) -> None:
    gradients = []
    for changes in ({}, {"micro_batch_size": 2}, {"micro_batch_tokens": 60}):
        (minibatch,) = planned(groups, random_policy, minibatches=1, **changes)
        known = known_logprobs(random_policy, None, [minibatch], 1.0)[0]
        gradients.append(stepped(random_policy, minibatch, known, loss_type="fipo", averaging="token_mean")[0])
    assert agree(gradients[1], gradients[0], "network")
    assert agree(gradients[2], gradients[0], "network")


def test_every_token_has_its_responses_advantage(groups: list[Group], random_policy: Policy) -> None:
    # rewards 1, -1, 1, -1.5: mean -0.125, and the standard deviation of the four with n - 1
    deviations = torch.tensor([1.125, -0.875, 1.125, -1.375], dtype=torch.float64)
    expected = deviations / (deviations.square().sum() / 3).sqrt()
    advantages = group_relative(groups, small_config(advantage_std_eps=0.0))
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


def test_the_overlong_filter_takes_cut_responses_out_of_the_loss_alone(
    groups: list[Group], random_policy: Policy
) -> None:
    """DAPO section 3.4: their loss is masked. The group's mean and spread still know them."""
    with_it, without = (
        [batch for part in planned(groups, random_policy, overlong_filter=on) for batch in part] for on in (True, False)
    )
    cut = [response.truncated for batch in with_it for response in batch.responses]
    assert 0 < sum(cut) < len(cut)
    rows = [row for batch in with_it for row in batch.tokens.mask]
    whole = [row for batch in without for row in batch.tokens.mask]
    for row, plain, is_cut in zip(rows, whole, cut, strict=True):
        assert not row.any() if is_cut else torch.equal(row, plain)
    for filtered, plain in zip(with_it, without, strict=True):
        assert torch.equal(filtered.advantages, plain.advantages)
        assert torch.equal(filtered.tokens.drawn, plain.tokens.drawn)


def test_what_the_overlong_filter_leaves_out_has_no_gradient_and_no_weight(
    groups: list[Group], random_policy: Policy
) -> None:
    flags = {"loss_type": "dapo", "averaging": "token_mean", "minibatches": 1}
    ((batch,),) = planned(groups, random_policy, overlong_filter=True, minibatches=1)
    known = known_logprobs(random_policy, None, [[batch]], 1.0)[0]
    filtered, record = stepped(random_policy, [batch], known, overlong_filter=True, **flags)
    kept = torch.tensor([index for index, one in enumerate(batch.responses) if not one.truncated])
    part, known_part = rows_of(batch, known[0], kept)
    alone, _ = stepped(random_policy, [part], [known_part], **flags)
    assert filtered.any()
    assert agree(filtered, alone, "network")
    assert record.trained_tokens == sum(len(one.tokens) for one in batch.responses if not one.truncated)


def test_the_noise_of_a_step_is_measured_on_what_is_trained(groups: list[Group], random_policy: Policy) -> None:
    """A micro-batch of cut responses alone has no token to measure on; a step of such has no noise yet."""
    config = small_config(loss_type="fipo", overlong_filter=True, micro_batch_size=1, minibatches=1, epochs=2)
    policy = random_policy.copy()
    (minibatch,) = plan_minibatches(groups, policy, GRADED, config)
    assert any(not batch.tokens.mask.any() for batch in minibatch)
    known = known_logprobs(policy, None, [minibatch], 1.0)
    noise = checked_noise(make_updater(config, policy), [minibatch], known)
    assert noise is not None
    assert (noise.ratio, noise.influence_weight) == (0.0, 0.0)
    cut = [index for index, batch in enumerate(minibatch) if batch.responses[0].truncated]
    empty = [minibatch[index] for index in cut], [known[0][index] for index in cut]
    assert checked_noise(make_updater(config, policy), [empty[0]], [empty[1]]) is None
