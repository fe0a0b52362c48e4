"""Small drawn batches for the property tests, the same ones in every run."""

from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from losses import LossBatch

deterministic = settings(derandomize=True, deadline=None, max_examples=40, database=None)


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers of a few binary digits: none so small that products lose digits for which no formula is to blame."""
    return st.integers(round(low * 64), round(high * 64)).map(lambda count: count / 64)


def tensors(rows: int, tokens: int, values: st.SearchStrategy[Any], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    """Tensors of one shape with entries from the strategy."""
    row = st.lists(values, min_size=tokens, max_size=tokens)
    return st.lists(row, min_size=rows, max_size=rows).map(lambda drawn: torch.tensor(drawn, dtype=dtype))


@st.composite
def batches(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> LossBatch:
    """Batches of one to three responses; ratios reach past every bound, masks have holes and empty rows."""
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    old, log_ratio, reference, advantages = (
        draw(tensors(rows, length, numbers(low, high), dtype))
        for low, high in ((-4.0, 0.0), (-3.0, 3.0), (-4.0, 0.0), (-2.0, 2.0))
    )
    mask = draw(tensors(rows, length, st.booleans(), torch.bool))
    return LossBatch((old + log_ratio).requires_grad_(), old, advantages, mask, reference)
