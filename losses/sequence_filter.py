"""The authors' sequence filter, which stands in no paper: responses with several dual-clipped tokens are dropped."""

from jaxtyping import Bool, Float
from torch import Tensor

from losses.precision import capped_exp, computation_dtype


def sequence_filter(
    log_ratio: Float[Tensor, "sequence token"],
    advantages: Float[Tensor, "sequence token"],
    mask: Bool[Tensor, "sequence token"],
    delta: float,
) -> Bool[Tensor, "sequence token"]:
    """The mask without the responses that have two or more dual-clipped tokens (A < 0 and r > delta, strict).

    Such a response leaves numerator and denominator: give the result to both the loss and `token_weights`. The
    authors' FIPO code does this (`seq_valid_mask`); ms-swift does not, and slime's version never fires.
    """
    ratio = capped_exp(log_ratio.to(computation_dtype(log_ratio)))
    dual_clipped = mask & (advantages < 0) & (ratio > delta)
    return mask & (dual_clipped.sum(dim=1, keepdim=True) <= 1)
