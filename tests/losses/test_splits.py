"""The same responses reordered, padded or split into micro-batches give the same loss and gradient."""

from functools import cache

import pytest
import torch
from torch import Tensor

from losses import AVERAGING_MODES
from tests.losses.agreement import agree
from tests.losses.steps import LOSSES, RESPONSES, Step, batch, drawn_step, kept, loss_and_gradient, responses, widened

LEVELS = {torch.float32: "float32_split", torch.float64: "float64_split"}
NAN = float("nan")

each_dtype = pytest.mark.parametrize("dtype", LEVELS)
each_mode = pytest.mark.parametrize("mode", AVERAGING_MODES)
each_loss = pytest.mark.parametrize("name", LOSSES)


@cache
def in_one_piece(dtype: torch.dtype, name: str, mode: str) -> tuple[Tensor, Tensor]:
    """The loss and gradient to which all others are compared."""
    step, parameter = drawn_step(dtype)
    return loss_and_gradient([step], parameter, name, mode)


def assert_same(dtype: torch.dtype, name: str, mode: str, parts: list[Step]) -> None:
    """The parts give what the step gives in one piece."""
    scalar, gradient = in_one_piece(dtype, name, mode)
    assert scalar != 0
    assert gradient.all()
    _, parameter = drawn_step(dtype)
    split, split_gradient = loss_and_gradient(parts, parameter, name, mode)
    assert agree(split, scalar, LEVELS[dtype])
    assert agree(split_gradient, gradient, LEVELS[dtype])


@each_dtype
@each_mode
@each_loss
def test_order_of_the_responses_changes_nothing(name: str, mode: str, dtype: torch.dtype) -> None:
    step, _ = drawn_step(dtype)
    assert_same(dtype, name, mode, [responses(step, [5, 0, 7, 2, 6, 1, 3, 4])])


@each_dtype
@each_mode
@each_loss
@pytest.mark.parametrize("columns", [0, 30])
def test_padding_changes_nothing(columns: int, name: str, mode: str, dtype: torch.dtype) -> None:
    step, _ = drawn_step(dtype)
    assert_same(dtype, name, mode, [widened(step, columns, NAN)])


@each_dtype
@each_mode
@each_loss
@pytest.mark.parametrize("count", [2, 4, 8])
def test_micro_batches_change_nothing(count: int, name: str, mode: str, dtype: torch.dtype) -> None:
    step, _ = drawn_step(dtype)
    # one response each, without tokens in places; each as wide as its own longest response
    parts = [responses(step, list(range(first, RESPONSES, count))) for first in range(count)]
    assert_same(dtype, name, mode, [widened(part, 0, NAN) for part in parts])


def test_the_drawn_step_has_what_could_go_wrong() -> None:
    step, parameter = drawn_step(torch.float64)
    dropped = kept(batch(step, parameter), 3.0).any(dim=1) != step.mask.any(dim=1)
    assert 0 < dropped.sum() < step.mask.any(dim=1).sum()
    lengths = [responses(step, [row]).mask.shape[1] for row in range(RESPONSES)]
    assert min(lengths) == 0
    assert len(set(lengths)) > 4


@each_mode
def test_totals_of_the_micro_batches_alone_would_change_the_loss(mode: str) -> None:
    step, parameter = drawn_step(torch.float64)
    whole, _ = loss_and_gradient([step], parameter, "dapo", mode)
    parts = [responses(step, rows) for rows in ([0], [1, 2, 3, 4, 5, 6, 7])]
    alone = [loss_and_gradient([part], parameter, "dapo", mode)[0] for part in parts]
    assert not agree(torch.stack(alone).mean(), whole, "float64_split")
