"""Group advantages: numbers worked by hand, groups by id, and exact zeros where a group says nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from losses import group_advantages
from tests.losses.agreement import agree, bitwise_equal
from tests.losses.drawn import deterministic, numbers

REWARDS = numbers(-3.0, 3.0)
SCALES = ["group", "batch", "none"]


def test_four_rewards_worked_by_hand() -> None:
    # rewards 1, 0, 0, 1: mean 1/2; squared differences sum to 4/4, over 4 - 1 gives 1/3; 0.5 / sqrt(1/3) = sqrt(3)/2
    rewards, group = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    assert agree(group_advantages(rewards, group, std_eps=0.0), signs * 3**0.5 / 2, "float64")
    # an epsilon of 1/2 joins the standard deviation, and by default one of a millionth
    for epsilon, own in ((0.5, {"std_eps": 0.5}), (1e-6, {})):
        assert agree(group_advantages(rewards, group, **own), signs * 0.5 / (3**-0.5 + epsilon), "float64")
    # a pair: squared differences sum to 1/2, over 2 - 1; 0.5 / sqrt(1/2) = sqrt(1/2)
    pair = torch.tensor([0.5**0.5, -(0.5**0.5)], dtype=torch.float64)
    assert agree(group_advantages(rewards[:2], torch.tensor([4, 4]), std_eps=0.0), pair, "float64")


def test_scale_batch_divides_by_the_spread_of_all_rewards() -> None:
    # groups (0, 2) and (4, 6): centered -1, 1, -1, 1; all rewards have variance (9 + 1 + 1 + 9) / 3 = 20/3
    rewards = torch.tensor([0.0, 2.0, 4.0, 6.0], dtype=torch.float64)
    groups = torch.tensor([0, 0, 1, 1])
    expected = torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    assert agree(group_advantages(rewards, groups, std_eps=0.0, scale="batch"), expected / (20 / 3) ** 0.5, "float64")
    assert bitwise_equal(group_advantages(rewards, groups, scale="none"), expected)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("reward", [0.1, -0.1])
def test_equal_rewards_give_exactly_0(reward: float, size: int, scale: str) -> None:
    # 0.1 is not the mean of three times 0.1 in floating point: a plain difference would leave a speck
    rewards = torch.full((size,), reward, dtype=torch.float64)
    advantages = group_advantages(rewards, torch.zeros(size, dtype=torch.int64), scale=scale)
    assert bitwise_equal(advantages, torch.zeros_like(rewards))


@pytest.mark.parametrize("scale", SCALES)
def test_groups_of_one_give_exactly_0_beside_larger_groups(scale: str) -> None:
    # the authors' code gives a lone reward itself as its advantage
    rewards = torch.tensor([0.7, 1.0, 0.0, 0.3], dtype=torch.float64)
    advantages = group_advantages(rewards, torch.tensor([5, 2, 2, 9]), scale=scale)
    assert advantages[[0, 3]].tolist() == [0.0, 0.0]
    assert (advantages[[1, 2]] != 0).all()


@deterministic
@given(st.data())
def test_groups_go_by_id_not_by_position(data: st.DataObject) -> None:
    rewards = torch.tensor(data.draw(st.lists(REWARDS, min_size=1, max_size=12)), dtype=torch.float64)
    groups = torch.tensor(data.draw(st.lists(st.integers(-3, 3), min_size=len(rewards), max_size=len(rewards))))
    order = torch.tensor(data.draw(st.permutations(range(len(rewards)))))
    scale = data.draw(st.sampled_from(SCALES))
    shuffled = group_advantages(rewards[order], groups[order], scale=scale)
    assert agree(shuffled, group_advantages(rewards, groups, scale=scale)[order], "float64_sum")
