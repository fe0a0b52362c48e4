"""FIPO's own mathematics: the discounted Future-KL and the influence weights derived from it."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from losses.parts.discounted_sum import discounted_future_sum
from losses.parts.precision import capped_exp, computation_dtype


def future_kl(
    log_ratio: Float[Tensor, "sequence token"],
    mask: Bool[Tensor, "sequence token"],
    decay_rate: float,
    delta: float | None = None,
    filter_in_log_space: bool = False,
) -> Float[Tensor, "sequence token"]:
    """The discounted sum of the log-probability shifts from each token to the end of its response, without gradient.

        F_t = sum_{k >= t} gamma^(k - t) M_k l_k,   gamma = 2^(-1 / decay_rate),   l = log pi_theta - log pi_old

    FIPO (arXiv 2603.19835), "Future-KL". decay_rate is a half-life in tokens. The current token is included. Distances
    are positions: a masked token inside a response adds nothing but still counts in the exponent. `delta` leaves out
    tokens whose ratio exceeds it, regardless of the sign of their advantage: r > delta on the published page,
    l > log(delta) in the authors' code (`filter_in_log_space`). The two differ only if the ratio rounds to delta.

    Infinite shifts are replaced by the largest that can be summed, so that they affect only the tokens before them.
    Raises ValueError unless decay_rate and delta are positive.
    """
    if not 0 < decay_rate < math.inf or (delta is not None and not delta > 0):
        raise ValueError(f"expected a decay_rate and a delta above 0, got {decay_rate} and {delta}")
    log_ratio = log_ratio.detach().to(computation_dtype(log_ratio))
    kept = mask
    if delta is not None:
        kept = mask & ~(log_ratio > math.log(delta) if filter_in_log_space else log_ratio.exp() > delta)
    largest = torch.finfo(log_ratio.dtype).max ** 0.5
    shifts = torch.where(kept, log_ratio.clamp(-largest, largest), 0.0)
    return torch.where(mask, discounted_future_sum(shifts, decay_rate), 0.0)


def weight_bounds(
    clip_range: float | None, clip_high_only: bool, weight_bound: float | None = None
) -> tuple[float, float]:
    """The bounds (low, high) to which influence weights are clipped.

        [1, 1 + clip_range] if clip_high_only else [1 - clip_range, 1 + clip_range]

    Without a clip range (None or 0) the published page leaves the weights unbounded, and the authors' code limits them
    to `weight_bound` (10).
    """
    if clip_range:
        return (1.0 if clip_high_only else 1.0 - clip_range), 1.0 + clip_range
    return 0.0, math.inf if weight_bound is None else weight_bound


def influence_weights(
    future_kl: Float[Tensor, "sequence token"],
    ratio: Float[Tensor, "sequence token"],
    advantages: Float[Tensor, "sequence token"],
    bounds: tuple[float, float],
    safety_threshold: float | None = None,
) -> Float[Tensor, "sequence token"]:
    """The factor by which FIPO multiplies each token's advantage, without gradient.

        f = clip(exp(F), bounds);   where A < 0 and r > safety_threshold:  f = clip(f, 0.8, 1.0)

    FIPO (arXiv 2603.19835), "influence weight". Both inequalities are strict. The paper's text says that f is "reset"
    to 1 in this case; the authors' code and the published page clip it to [0.8, 1.0], which raises a small f to 0.8.
    """
    # torch rounds the bounds to the tensor's dtype before clipping: in float32 a clip range of 1e-12 gives exactly 1
    future_kl = future_kl.detach().to(computation_dtype(future_kl))
    weights = capped_exp(future_kl).clamp(*bounds)
    if safety_threshold is None:
        return weights
    return torch.where(unsafe(ratio, advantages, safety_threshold), weights.clamp(0.8, 1.0), weights)


def unsafe(
    ratio: Float[Tensor, "sequence token"],
    advantages: Float[Tensor, "sequence token"],
    safety_threshold: float | None,
) -> Bool[Tensor, "sequence token"]:
    """Where the safety rule acts: A < 0 and r > safety_threshold, both strict; nowhere without a threshold."""
    negative = advantages < 0
    return torch.zeros_like(negative) if safety_threshold is None else negative & (ratio > safety_threshold)
