"""Shapes stand in the types: a tensor of another shape or dtype is refused wherever types are checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from losses import LOSSES, LossBatch, future_kl, group_advantages, influence_weights, sequence_filter, token_weights
from losses.surrogate import clip_diagnostics, clipped_surrogate, masked

WIDE, NARROW, FLAT = torch.zeros(2, 3), torch.zeros(2, 2), torch.zeros(3)
MASK = torch.ones(2, 3, dtype=torch.bool)
BOUNDS = (0.0, 2.0)

# each call has one argument of a wrong shape or dtype
WRONG: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (future_kl, (NARROW, MASK, 32.0)),
    (future_kl, (WIDE, WIDE, 32.0)),
    (influence_weights, (WIDE, NARROW, WIDE, BOUNDS)),
    (influence_weights, (WIDE, WIDE, NARROW, BOUNDS)),
    (sequence_filter, (NARROW, WIDE, MASK, 10.0)),
    (sequence_filter, (WIDE, NARROW, MASK, 10.0)),
    (token_weights, (FLAT.bool(), "token_mean")),
    (token_weights, (WIDE, "token_mean")),
    (group_advantages, (FLAT, torch.zeros(2, dtype=torch.int64))),
    (group_advantages, (FLAT, FLAT)),
    (clipped_surrogate, (WIDE, NARROW, 0.2, 0.2, None)),
    (clip_diagnostics, (WIDE, WIDE, NARROW, 0.2, 0.2, None)),
    (masked, (NARROW, MASK)),
]


@pytest.mark.parametrize(("function", "arguments"), WRONG)
def test_wrong_shape_or_dtype_is_refused(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeCheckError):
        jaxtyped(function, typechecker=beartype)(*arguments)


@jaxtyped(typechecker=beartype)
@dataclass(frozen=True)
class CheckedBatch(LossBatch):
    """LossBatch with its types checked, also where pytest was started without the option that does it."""


LOGPROBS = ("policy_logprobs", "old_logprobs", "reference_logprobs")
RIGHT = dict.fromkeys((*LOGPROBS, "advantages"), WIDE) | {"mask": MASK}


@pytest.mark.parametrize("name", RIGHT)
def test_batch_with_one_wrong_shape_or_dtype_is_refused(name: str) -> None:
    assert CheckedBatch(**RIGHT).mask is MASK
    for wrong in (RIGHT[name][:, :2], RIGHT[name].int()):
        with pytest.raises(TypeCheckError):
            CheckedBatch(**RIGHT | {name: wrong})


@pytest.mark.parametrize("loss", LOSSES)
def test_batch_without_reference_is_a_batch(loss: str) -> None:
    batch = CheckedBatch(WIDE, WIDE, WIDE, MASK)
    assert jaxtyped(LOSSES[loss].__call__, typechecker=beartype)(LOSSES[loss](), batch).token_loss.shape == (2, 3)
