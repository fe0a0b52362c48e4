"""The Future-KL and the influence weights by themselves: against a plain loop, by hand, at exact ties."""

import math

import pytest
import torch
from torch import Tensor

from losses import future_kl, influence_weights
from losses.parts.future_kl import weight_bounds
from tests.losses.agreement import agree


def reverse_loop(log_ratio: Tensor, mask: Tensor, decay_rate: float) -> Tensor:
    """The Future-KL as its definition reads: from the last token to the first, one at a time."""
    gamma = 2.0 ** (-1.0 / decay_rate)
    result = torch.zeros_like(log_ratio)
    for row in range(log_ratio.shape[0]):
        later = 0.0
        for token in reversed(range(log_ratio.shape[1])):
            own = float(log_ratio[row, token]) if mask[row, token] else 0.0
            later = own + gamma * later
            result[row, token] = later if mask[row, token] else 0.0
    return result


def drawn_log_ratios(rows: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Log-ratios, and a mask with interior holes, padding and a full row."""
    generator = torch.Generator().manual_seed(tokens)
    log_ratio = torch.randn(rows, tokens, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, tokens, generator=generator) > 0.3
    mask[0] = True
    mask[1, tokens // 2 :] = False
    return log_ratio, mask


@pytest.mark.parametrize("decay_rate", [0.5, 1.0, 32.0, 1000.0])
@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 64, 257])
def test_doubling_is_the_plain_reverse_loop(tokens: int, decay_rate: float) -> None:
    log_ratio, mask = drawn_log_ratios(4, tokens)
    expected = reverse_loop(log_ratio, mask, decay_rate)
    assert agree(future_kl(log_ratio, mask, decay_rate), expected, "float64_sum")
    assert agree(future_kl(log_ratio.float(), mask, decay_rate), expected, "float32_sum")


def test_half_life_is_counted_in_positions_also_across_a_hole() -> None:
    # decay rate 1: half per position. A shift of 8 three positions later is 8 / 2^3 = 1, across a hole too
    log_ratio = torch.tensor([[0.0, 5.0, 0.0, 8.0]], dtype=torch.float64)
    hole = torch.tensor([[True, False, True, True]])
    assert future_kl(log_ratio, hole, 1.0).tolist() == [[1.0, 0.0, 4.0, 8.0]]
    # decay rate 3: half per three positions
    assert agree(future_kl(log_ratio, hole, 3.0)[0, 0], torch.tensor(4.0), "float64")


def test_filter_leaves_out_ratios_above_delta_whatever_comes_of_them() -> None:
    # ratios 1, 16, 2 with delta 10, decay 1: the 16 is gone from its own sum and from those before it
    log_ratio = torch.tensor([[0.0, 16.0, 2.0]], dtype=torch.float64)
    log_ratio[0, 1:] = log_ratio[0, 1:].log()
    mask = torch.ones(1, 3, dtype=torch.bool)
    two = math.log(2.0)
    expected = torch.tensor([[two / 4, two / 2, two]], dtype=torch.float64)
    for in_log_space in (False, True):
        assert agree(future_kl(log_ratio, mask, 1.0, 10.0, in_log_space), expected, "float64")


def test_ratio_of_exactly_delta_is_kept() -> None:
    log_ratio = torch.tensor([[1.5]], dtype=torch.float64)
    mask = torch.ones(1, 1, dtype=torch.bool)
    delta = log_ratio.exp().item()
    assert future_kl(log_ratio, mask, 1.0, delta).item() == 1.5
    below = math.nextafter(delta, 0)
    assert future_kl(log_ratio, mask, 1.0, below).item() == 0.0


def test_filter_is_in_ratio_space_unless_told() -> None:
    # one rounding apart: exp(l) is above 10 while l is not above log 10
    log_ratio = torch.tensor([[math.log(10.0)]], dtype=torch.float64)
    mask = torch.ones(1, 1, dtype=torch.bool)
    delta = math.nextafter(log_ratio.exp().item(), 0)
    assert math.log(delta) >= log_ratio.item()
    assert future_kl(log_ratio, mask, 1.0, delta).item() == 0.0
    assert future_kl(log_ratio, mask, 1.0, delta, filter_in_log_space=True).item() == log_ratio.item()


def test_future_kl_has_no_gradient() -> None:
    log_ratio = torch.ones(1, 3, requires_grad=True)
    mask = torch.ones(1, 3, dtype=torch.bool)
    future = future_kl(log_ratio, mask, 32.0)
    assert not future.requires_grad
    weights = influence_weights(log_ratio, log_ratio.exp(), torch.ones(1, 3), (0.0, math.inf), 4.0)
    assert not weights.requires_grad


@pytest.mark.parametrize(
    ("clip_range", "clip_high_only", "weight_bound", "bounds"),
    [
        (0.25, True, None, (1.0, 1.25)),
        (0.25, False, None, (0.75, 1.25)),
        (0.25, False, 10.0, (0.75, 1.25)),
        (None, True, None, (0.0, math.inf)),
        (0.0, False, None, (0.0, math.inf)),
        (None, False, 10.0, (0.0, 10.0)),
        (0.0, True, 10.0, (0.0, 10.0)),
    ],
)
def test_weight_bounds(
    clip_range: float | None, clip_high_only: bool, weight_bound: float | None, bounds: tuple[float, float]
) -> None:
    assert weight_bounds(clip_range, clip_high_only, weight_bound) == bounds


def test_safety_rule_by_hand() -> None:
    # weights exp(F) = 1/2, 2, 1/2, 2, 1/2, 2; unsafe (A < 0 and r > 4) are the first two alone:
    # r = 4 exactly is safe, A = 0 is not negative, A > 0 may have any ratio
    future = torch.tensor([[0.5, 2.0, 0.5, 2.0, 0.5, 2.0]], dtype=torch.float64).log()
    ratio = torch.tensor([[5.0, 5.0, 4.0, 4.0, 5.0, 5.0]], dtype=torch.float64)
    advantages = torch.tensor([[-1.0, -1.0, -1.0, -1.0, 0.0, 1.0]], dtype=torch.float64)
    expected = torch.tensor([[0.8, 1.0, 0.5, 2.0, 0.5, 2.0]], dtype=torch.float64)
    weights = influence_weights(future, ratio, advantages, (0.0, math.inf), 4.0)
    assert agree(weights, expected, "float64")
    without = influence_weights(future, ratio, advantages, (0.0, math.inf), None)
    assert agree(without, future.exp(), "exact")
    # bounds come first: 1/2 is raised to 1, not to 0.8, and 2 is cut to 1.2 and then, being unsafe, to 1
    bounded = influence_weights(future, ratio, advantages, (1.0, 1.2), 4.0)
    assert agree(bounded, torch.tensor([[1.0, 1.0, 1.0, 1.2, 1.0, 1.2]], dtype=torch.float64), "float64")
