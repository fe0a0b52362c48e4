"""DPPO's per-token loss: a token stops once the policy's divergence from the sampling policy is too large."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from losses.contract import Diagnostics
from losses.policy_loss import PolicyLoss, Terms

THRESHOLDS = {"tv": 0.15, "kl": 0.05}


@dataclass(frozen=True, kw_only=True)
class DPPO(PolicyLoss):
    """Divergence PPO (arXiv 2602.04879, eq. 11), per token:

        L_t = -M_t sg(min(r_t, ratio_max)) A log pi_theta + beta k3_t
        M_t = 0 where A > 0, p > q and D > threshold, or A < 0, p < q and D > threshold; else 1

    p and q are the sampled token's probabilities now and under the old policy, recomputed by the trainer (the paper's q
    is the sampler's), D their distance as Bernoulli variables (eq. 13, 14). verl's script averages by `constant`. Near
    p = 1, verl and the authors add 1e-8 inside the logarithms and TRL cuts p at 1 - 1e-7; here 1 - p is exact.
    `ratio_max` is 10000 in verl's script, 3 by its default, 20 in TRL, 10 in the authors' code.
    """

    divergence: Literal["tv", "kl"] = "tv"  # |p - q|, or the KL from q to p
    threshold_high: float | None = None  # where A > 0; None: 0.15 for tv, 0.05 for kl, the authors' values
    threshold_low: float | None = None  # the same where A < 0
    ratio_max: float = 1e4  # importance weights are cut to at most this

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        super().__post_init__()
        given = [name for name in ("threshold_high", "threshold_low") if getattr(self, name) is not None]
        self.require_positive("ratio_max", *given)

    def per_token(self, terms: Terms) -> tuple[Tensor, Diagnostics]:
        """The weighted log-probability of the tokens that are not stopped, and which are."""
        logprobs, advantages = terms.logprobs.detach(), terms.advantages
        distance = {"tv": binary_tv, "kl": binary_kl}[self.divergence](logprobs, terms.old_logprobs)
        high, low = (
            THRESHOLDS[self.divergence] if given is None else given
            for given in (self.threshold_high, self.threshold_low)
        )
        too_high = (advantages > 0) & (logprobs > terms.old_logprobs) & (distance > high)
        too_low = (advantages < 0) & (logprobs < terms.old_logprobs) & (distance > low)
        weights = terms.ratio.detach().clamp(max=self.ratio_max).masked_fill(too_high | too_low, 0.0)
        return -weights * advantages * terms.logprobs, {"clip_fraction_low": too_low, "clip_fraction_high": too_high}


def binary_tv(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """|p - q|."""
    return (logprobs.exp() - old_logprobs.exp()).abs()


def binary_kl(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """q log(q / p) + (1 - q) log((1 - q) / (1 - p)); infinite where p is 1 and q is not."""
    rest, old_rest = (-torch.expm1(values).clamp(max=0) for values in (logprobs, old_logprobs))
    of_rest = torch.where(old_rest > 0, old_rest * (old_rest.log() - rest.log()), 0.0)
    return old_logprobs.exp() * (old_logprobs - logprobs) + of_rest
