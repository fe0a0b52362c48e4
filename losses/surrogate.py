"""The pieces that the three losses share: log-ratio, clipped surrogate, KL to a reference, what is handed back."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from losses.contract import Diagnostics, LossBatch, LossOutput
from losses.precision import exponent_limit


def masked(values: Float[Tensor, "sequence token"], mask: Bool[Tensor, "sequence token"]) -> Tensor:
    """The values with 0 where the mask is False, whatever stood there, in value and in gradient."""
    return torch.where(mask, values, 0.0)  # on CPU a third faster than masked_fill


def policy_log_ratio(batch: LossBatch, log_ratio_clamp: float | None) -> Float[Tensor, "sequence token"]:
    """log pi_theta - log pi_old per token, 0 where masked; beyond +-log_ratio_clamp it is cut and has no gradient.

    The clamp is the authors' (20.0, verl); the published page and the papers have none.
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
    """PPO's clipped loss per token, with the dual clip where `delta` is set.

        L = max(-A r, -A clip(r, 1 - epsilon_low, 1 + epsilon_high));   where A < 0:  L = min(L, -A delta)

    DAPO eq. 8 without the dual clip, which is verl's `clip_ratio_c` and ms-swift's `delta`. Written as -A times a ratio
    that only the bound at stake cuts: the upper one where A > 0, where A < 0 the lower one and delta. The two are the
    same number as long as delta > 1 + epsilon_high, which is demanded, and so is ms-swift's -min(min(r, delta) A, ...).
    """
    cut = torch.where(advantages < 0, ratio.clamp(1 - epsilon_low, delta), ratio.clamp(max=1 + epsilon_high))
    return -advantages * cut


def kl_to_reference(batch: LossBatch) -> Float[Tensor, "sequence token"]:
    """The k3 estimate of KL(pi_theta || pi_ref) per token: exp(d) - d - 1 with d = log pi_ref - log pi_theta.

    DeepSeekMath eq. 4. d is cut where exp would overflow, and has no gradient beyond.
    """
    if batch.reference_logprobs is None:
        raise ValueError("beta > 0 needs reference_logprobs, got None: pass them or set beta to 0")
    difference = masked(batch.reference_logprobs - batch.policy_logprobs, batch.mask)
    capped = difference.clamp(max=exponent_limit(difference.dtype))
    return capped.exp() - capped - 1


def clip_diagnostics(
    log_ratio: Float[Tensor, "sequence token"],
    ratio: Float[Tensor, "sequence token"],
    advantages: Float[Tensor, "sequence token"],
    epsilon_low: float,
    epsilon_high: float,
    delta: float | None,
) -> Diagnostics:
    """Per token: log pi_old - log pi, and whether the low, the high or the dual clip stopped its gradient."""
    log_ratio, ratio = log_ratio.detach(), ratio.detach()
    negative = advantages < 0
    dual = negative & (ratio > delta) if delta is not None else torch.zeros_like(negative)
    return {
        "kl_to_old": -log_ratio,
        "clip_fraction_low": negative & (ratio < 1 - epsilon_low),
        "clip_fraction_high": (advantages > 0) & (ratio > 1 + epsilon_high),
        "clip_fraction_dual": dual,
    }


def with_kl(
    batch: LossBatch,
    token_loss: Float[Tensor, "sequence token"],
    diagnostics: Diagnostics,
    beta: float,
) -> LossOutput:
    """What a loss hands back: the token losses, which are 0 where masked, with beta times the KL to the reference."""
    if beta > 0:
        kl = kl_to_reference(batch)
        token_loss = token_loss + beta * kl
        diagnostics = diagnostics | {"kl_to_reference": kl.detach()}
    return LossOutput(token_loss, diagnostics, batch.mask)
