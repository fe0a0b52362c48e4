"""The authors' sequence filter, which no paper mentions: drops responses with several dual-clipped tokens."""

from jaxtyping import Bool, Float
from torch import Tensor

from losses.parts.precision import capped_exp, computation_dtype


def sequence_filter(
    log_ratio: Float[Tensor, "sequence token"],
    advantages: Float[Tensor, "sequence token"],
    mask: Bool[Tensor, "sequence token"],
    delta: float,
) -> Bool[Tensor, "sequence token"]:
    """The mask without responses that have two or more dual-clipped tokens (A < 0 and r > delta, strict).

    Pass the result both to the loss and to `token_weights`, since a dropped response counts in neither the sum nor its
    divisor. The authors' FIPO code does this (`seq_valid_mask`); ms-swift does not, and slime's version never triggers.
    """
    ratio = capped_exp(log_ratio.to(computation_dtype(log_ratio)))
    dual_clipped = mask & (advantages < 0) & (ratio > delta)
    return mask & (dual_clipped.sum(dim=1, keepdim=True) <= 1)
