"""The parts that losses share: log-ratio, clipped surrogate, KL to a reference, where a clip acts, sequence filter."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from losses.contract import Diagnostics, LossBatch
from losses.parts.precision import capped_exp, computation_dtype, exponent_limit


def masked(values: Float[Tensor, "sequence token"], mask: Bool[Tensor, "sequence token"]) -> Tensor:
    """The values, with 0 where the mask is False; neither value nor gradient depends on masked entries, even NaN."""
    return torch.where(mask, values, 0.0)  # a third faster than masked_fill on CPU


def policy_log_ratio(batch: LossBatch, log_ratio_clamp: float | None) -> Float[Tensor, "sequence token"]:
    """log pi_theta - log pi_old per token, 0 where masked; clamped to +-log_ratio_clamp, without gradient beyond it.

    Only the authors' code has the clamp (20.0, from verl); the published page and the papers do not.
    """
    log_ratio = masked(batch.policy_logprobs - batch.old_logprobs, batch.mask)
    return log_ratio if log_ratio_clamp is None else log_ratio.clamp(-log_ratio_clamp, log_ratio_clamp)


def clipped_surrogate(
    ratio: Float[Tensor, "sequence token"],
    advantages: Float[Tensor, "sequence token"],
    epsilon_low: float,
    epsilon_high: float,
    delta: float | None,
) -> Float[Tensor, "sequence token"]:
    """PPO's clipped loss per token, with the dual clip if `delta` is set.

        L = max(-A r, -A clip(r, 1 - epsilon_low, 1 + epsilon_high));   where A < 0:  L = min(L, -A delta)

    DAPO eq. 8 and the dual clip (verl's `clip_ratio_c`, ms-swift's `delta`). Computed as -A times a ratio clipped only
    at the bounds that matter: the upper one for A > 0, the lower one and delta for A < 0. This equals the formula, and
    ms-swift's -min(min(r, delta) A, ...), as long as delta > 1 + epsilon_high, which the losses require.
    """
    cut = torch.where(advantages < 0, ratio.clamp(1 - epsilon_low, delta), ratio.clamp(max=1 + epsilon_high))
    return -advantages * cut


def kl_to_reference(batch: LossBatch) -> Float[Tensor, "sequence token"]:
    """The k3 estimate of KL(pi_theta || pi_ref) per token: exp(d) - d - 1 with d = log pi_ref - log pi_theta.

    DeepSeekMath eq. 4. d is capped at the exponent limit, without gradient beyond it. Raises ValueError if the batch
    has no reference_logprobs.
    """
    if batch.reference_logprobs is None:
        raise ValueError("beta > 0 needs reference_logprobs, got None: pass them or set beta to 0")
    difference = masked(batch.reference_logprobs - batch.policy_logprobs, batch.mask)
    capped = difference.clamp(max=exponent_limit(difference.dtype))
    return capped.exp() - capped - 1


def clip_diagnostics(
    ratio: Float[Tensor, "sequence token"],
    advantages: Float[Tensor, "sequence token"],
    epsilon_low: float,
    epsilon_high: float,
    delta: float | None = None,
) -> Diagnostics:
    """Per token: whether the lower, upper or dual clip of the surrogate stopped its gradient."""
    ratio = ratio.detach()
    negative = advantages < 0
    dual = negative & (ratio > delta) if delta is not None else torch.zeros_like(negative)
    return {
        "clip_fraction_low": negative & (ratio < 1 - epsilon_low),
        "clip_fraction_high": (advantages > 0) & (ratio > 1 + epsilon_high),
        "clip_fraction_dual": dual,
    }


def sequence_filter(
    log_ratio: Float[Tensor, "sequence token"],
    advantages: Float[Tensor, "sequence token"],
    mask: Bool[Tensor, "sequence token"],
    delta: float,
) -> Bool[Tensor, "sequence token"]:
    """The mask without responses that have two or more dual-clipped tokens (A < 0 and r > delta, strict).

    Only the authors' FIPO code has it (`seq_valid_mask`), no paper; ms-swift does not, and slime's version never
    triggers. Pass the result both to the loss and to `token_weights`, since a dropped response counts in neither the
    sum nor its divisor.
    """
    ratio = capped_exp(log_ratio.to(computation_dtype(log_ratio)))
    dual_clipped = mask & (advantages < 0) & (ratio > delta)
    return mask & (dual_clipped.sum(dim=1, keepdim=True) <= 1)
