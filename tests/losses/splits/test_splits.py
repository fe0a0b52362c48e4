"""The same responses reordered, padded or split into micro-batches give the same loss and gradient."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from losses import AVERAGING_MODES
from tests.losses.agreement import agree
from tests.losses.splits.steps import (
    EMPTY,
    LOSSES,
    RESPONSES,
    Step,
    batch,
    drawn_step,
    kept,
    loss_and_gradient,
    responses,
    widened,
)

NAN = float("nan")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def micro_batches(count: int) -> Callable[[Step], list[Step]]:
    """So many, some of one response, without tokens in places; each as wide as its own longest response."""
    rows = [list(range(first, RESPONSES, count)) for first in range(count)]
    return lambda step: [widened(responses(step, chosen), 0, NAN) for chosen in rows]


PARTS: dict[str, Callable[[Step], list[Step]]] = {
    "another order": lambda step: [responses(step, [5, 0, 7, 2, 6, 1, 3, 4])],
    "padding": lambda step: [widened(step, 30, NAN)],
} | {f"{count} micro-batches": micro_batches(count) for count in (3, 8)}

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_mode = pytest.mark.parametrize("mode", AVERAGING_MODES)
each_loss = pytest.mark.parametrize("name", LOSSES)


@cache
def in_one_piece(dtype: str, name: str, mode: str) -> tuple[Tensor, Tensor]:
    """The loss and gradient to which all others are compared."""
    step, parameter = drawn_step(DTYPES[dtype])
    return loss_and_gradient([step], parameter, name, mode)


@each_dtype
@each_mode
@each_loss
@pytest.mark.parametrize("parts", PARTS)
def test_how_a_step_is_laid_out_changes_nothing(parts: str, name: str, mode: str, dtype: str) -> None:
    scalar, gradient = in_one_piece(dtype, name, mode)
    assert scalar != 0
    assert gradient.all()
    step, parameter = drawn_step(DTYPES[dtype])
    split, split_gradient = loss_and_gradient(PARTS[parts](step), parameter, name, mode)
    assert agree(split, scalar, f"{dtype}_split")
    assert agree(split_gradient, gradient, f"{dtype}_split")


def test_the_drawn_step_has_what_could_go_wrong() -> None:
    step, parameter = drawn_step(torch.float64)
    dropped = kept(batch(step, parameter), 3.0).any(dim=1) != step.mask.any(dim=1)
    assert 0 < dropped.sum() < step.mask.any(dim=1).sum()
    lengths = [responses(step, [row]).mask.shape[1] for row in range(RESPONSES)]
    assert min(lengths) == 0
    assert len(set(lengths)) > 4
    assert not step.mask[list(EMPTY)].any()


@each_mode
def test_totals_of_the_micro_batches_alone_would_change_the_loss(mode: str) -> None:
    step, parameter = drawn_step(torch.float64)
    whole, _ = in_one_piece("float64", "dapo", mode)
    parts = [responses(step, rows) for rows in ([0], [1, 2, 3, 4, 5, 6, 7])]
    alone = [loss_and_gradient([part], parameter, "dapo", mode)[0] for part in parts]
    assert not agree(torch.stack(alone).mean(), whole, "float64_split")
