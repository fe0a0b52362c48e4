"""Numbers that neither lose their digits nor overflow: float32 at least, exponents capped."""

import math

import torch
from torch import Tensor


def computation_dtype(*tensors: Tensor) -> torch.dtype:
    """The widest dtype among the tensors, float32 at least: ratios and their sums are never taken in bfloat16."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def exponent_limit(dtype: torch.dtype) -> float:
    """The largest exponent that `capped_exp` takes: 29.6 in float32, 236.6 in float64.

    A third of where exp overflows, so that the product of a ratio, an influence weight and an advantage is finite.
    """
    return math.log(torch.finfo(dtype).max) / 3


def capped_exp(values: Tensor) -> Tensor:
    """exp of the values, which are cut at the exponent limit of their dtype and have no gradient beyond it.

    No implementation has this cap; the authors cut every log-ratio at +-20 instead, the published page nothing.
    """
    return values.clamp(max=exponent_limit(values.dtype)).exp()
