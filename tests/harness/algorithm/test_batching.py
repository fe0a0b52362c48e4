import itertools

import pytest
import torch

from harness.algorithm.batching import MicroBatch, group_relative, plan_minibatches, text_tokens
from harness.backends.ranks import Ranks
from harness.model.policy import Policy
from harness.tasks.chain_sum import GRADED
from tests.harness.agreement import agree
from tests.harness.algorithm.steps import planned
from tests.harness.responses import four_groups
from tests.harness.tiny import small_config


def prompts(minibatch: list[MicroBatch]) -> list[str]:
    return [response.problem.prompt for batch in minibatch for response in batch.responses]


def unpacked(plan: list[list[MicroBatch]]) -> list[MicroBatch]:
    return [batch for minibatch in plan for batch in minibatch]


@pytest.mark.parametrize(
    ("kept", "minibatches", "groups_in_each"),
    # unfilled batches make smaller or fewer minibatches
    [(4, 1, [4]), (4, 2, [2, 2]), (4, 4, [1, 1, 1, 1]), (3, 2, [2, 1]), (1, 2, [1]), (0, 2, [])],
)
def test_minibatches_hold_whole_groups_in_order(
    random_policy: Policy, kept: int, minibatches: int, groups_in_each: list[int]
) -> None:
    rest = iter(four_groups(random_policy))
    expected = [[response.problem.prompt for _ in range(n) for response in next(rest)] for n in groups_in_each]
    assert [prompts(one) for one in planned(random_policy, kept, minibatches=minibatches)] == expected


@pytest.mark.parametrize("size", [None, 1, 2, 8])
def test_micro_batches_hold_the_minibatch_in_order(random_policy: Policy, size: int | None) -> None:
    plan = planned(random_policy, micro_batch_size=size)
    assert [len(minibatch) for minibatch in plan] == [8 // (size or 8)] * 2
    assert [prompts(minibatch) for minibatch in plan] == [prompts(minibatch) for minibatch in planned(random_policy)]


@pytest.mark.parametrize("budget", [1, 60, 100, 10_000])
def test_micro_batches_by_tokens_are_filled_by_length(random_policy: Policy, budget: int) -> None:
    plan = planned(random_policy, micro_batch_tokens=budget)
    for minibatch, all_at_once in zip(plan, planned(random_policy), strict=True):
        lengths = [[text_tokens(response) for response in batch.responses] for batch in minibatch]
        assert all(sum(part) <= budget or len(part) == 1 for part in lengths)
        assert all(sum(part) + after[0] > budget for part, after in itertools.pairwise(lengths))
        flat = [length for part in lengths for length in part]
        assert flat == sorted(flat, reverse=True)
        keys = [sorted(one.key for batch in each for one in batch.responses) for each in (minibatch, all_at_once)]
        assert keys[0] == keys[1]


def test_ranks_share_micro_batches_by_tokens_and_have_equally_many(random_policy: Policy) -> None:
    groups, config = four_groups(random_policy), small_config(micro_batch_tokens=60)
    alone, *of_ranks = (
        plan_minibatches(groups, random_policy, GRADED, config, Ranks(rank, size, lambda value: [value]))
        for rank, size in ((0, 1), (0, 2), (1, 2))
    )
    for whole, first, second in zip(alone, *of_ranks, strict=True):
        assert len(first) == len(second)
        shared = [part.responses for pair in zip(first, second, strict=True) for part in pair]
        assert [part for part in shared if part] == [batch.responses for batch in whole]


def test_every_token_has_its_responses_advantage(random_policy: Policy) -> None:
    # rewards 1, -1, 1, -1.5: mean -0.125, and the standard deviation of the four with n - 1
    deviations = torch.tensor([1.125, -0.875, 1.125, -1.375], dtype=torch.float64)
    expected = deviations / (deviations.square().sum() / 3).sqrt()
    advantages = group_relative(four_groups(random_policy), small_config(advantage_std_eps=0.0))
    assert agree(advantages, expected.repeat(4), "float64")
    for batch in unpacked(planned(random_policy, micro_batch_size=2)):
        # no wider than its responses
        assert batch.advantages.shape == batch.tokens.mask.shape == (2, max(len(r.tokens) for r in batch.responses))
        for row, response in enumerate(batch.responses):
            length = len(response.tokens)
            assert agree(batch.advantages[row, :length], expected[response.sample].expand(length), "network")
            assert not batch.advantages[row, length:].any()


def test_the_overlong_filter_takes_cut_responses_out_of_the_loss_alone(random_policy: Policy) -> None:
    """DAPO section 3.4: their loss is masked. The group's mean and spread still know them."""
    filtered, plain = (unpacked(planned(random_policy, overlong_filter=on)) for on in (True, False))
    cut = [response.truncated for batch in filtered for response in batch.responses]
    assert 0 < sum(cut) < len(cut)
    rows = [[row for batch in batches for row in batch.tokens.mask] for batches in (filtered, plain)]
    for row, other, is_cut in zip(*rows, cut, strict=True):
        assert not row.any() if is_cut else torch.equal(row, other)
    for ours, theirs in zip(filtered, plain, strict=True):
        assert torch.equal(ours.advantages, theirs.advantages)
        assert torch.equal(ours.tokens.drawn, theirs.tokens.drawn)
