"""Numerical safety: compute in at least float32, and keep exponentials from overflowing."""

import math

import torch
from torch import Tensor


def computation_dtype(*tensors: Tensor) -> torch.dtype:
    """The widest dtype among the tensors, but at least float32: ratios and sums are never computed in bfloat16."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def exponent_limit(dtype: torch.dtype) -> float:
    """The exponent at which `capped_exp` cuts off: 29.6 in float32, 236.6 in float64.

    It is a third of the largest exponent that does not overflow, so that the product of a ratio, an influence weight
    and an advantage stays finite.
    """
    return math.log(torch.finfo(dtype).max) / 3


def capped_exp(values: Tensor) -> Tensor:
    """exp(min(values, exponent_limit)), without gradient beyond the limit.

    No other implementation has this cap: the authors clamp every log-ratio to +-20, the published page clamps nothing.
    """
    return values.clamp(max=exponent_limit(values.dtype)).exp()
