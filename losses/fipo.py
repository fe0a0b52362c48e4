"""FIPO's per-token loss: DAPO's with each advantage multiplied by the token's influence weight."""

import math
from dataclasses import dataclass

from torch import Tensor

from losses.contract import Diagnostics, LossSettingError
from losses.dapo import DAPO
from losses.parts.future_kl import future_kl, influence_weights, unsafe, weight_bounds
from losses.parts.surrogate import clip_diagnostics, clipped_surrogate, masked
from losses.policy_loss import Terms

MOVED = 1e-3  # a smaller distance from 1 is not counted: rounding alone moves a third of all weights


@dataclass(frozen=True, kw_only=True)
class FIPO(DAPO):
    """Future-KL Influenced Policy Optimization (arXiv 2603.19835), per token:

        L_t = max(-A f_t r_t, -A f_t clip(r_t, 1 - epsilon_low, 1 + epsilon_high)) + beta k3_t

    The defaults are those of the published page (ms-swift's documentation of FIPO). There `delta` is None, which means
    neither dual clip nor Future-KL filter; the paper found that unstable, and its recipes use 10. The last two fields
    and `log_ratio_clamp` restore behaviour that only the authors' code has.
    """

    decay_rate: float = 32.0  # tau: half-life of the Future-KL's discount, in tokens
    clip_range: float | None = 0.2  # epsilon_f: largest distance of a weight from 1; None or 0 for no clipping
    clip_high_only: bool = True  # weights in [1, 1 + clip_range] (32B recipe) rather than on both sides (7B recipe)
    safety_threshold: float | None = 4.0  # if A < 0 and the ratio exceeds this, the weight is clipped to [0.8, 1]
    filter_in_log_space: bool = False  # compare the log-ratio with log(delta), as the authors do
    signed: bool = (
        False  # weights exp(sign(A) F), not FIPO's: what raises a right response's weight lowers a wrong one's
    )
    weight_bound: float | None = None  # largest weight without a clip range; 10.0 in the authors' code

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        super().__post_init__()
        self.require_positive("decay_rate")
        if self.clip_range is not None and not 0 <= self.clip_range < math.inf:
            raise LossSettingError("clip_range", f"must be finite, 0 or above, or none, got {self.clip_range}")
        if self.clip_range is not None and not self.clip_high_only and self.clip_range >= 1:
            raise LossSettingError("clip_range", f"must be below 1 when two-sided, got {self.clip_range}")
        if self.safety_threshold is not None and not self.safety_threshold > 0:
            raise LossSettingError("safety_threshold", f"must be above 0, or none, got {self.safety_threshold}")
        if self.weight_bound is not None and not self.weight_bound >= 1:
            raise LossSettingError("weight_bound", f"must be 1 or above, or none, got {self.weight_bound}")

    def per_token(self, terms: Terms) -> tuple[Tensor, Diagnostics]:
        """The clipped surrogate of weighted advantages, where its clip acts, and the weights."""
        ratio, advantages = terms.ratio, terms.advantages
        future = future_kl(terms.log_ratio, terms.mask, self.decay_rate, self.delta, self.filter_in_log_space)
        bounds = weight_bounds(self.clip_range, self.clip_high_only, self.weight_bound)
        exponent = future * advantages.sign() if self.signed else future
        weights = terms.influence_weights
        if weights is None:
            weights = influence_weights(exponent, ratio, advantages, bounds, self.safety_threshold)
        weights = masked(weights, terms.mask)
        clip = (self.epsilon_low, self.epsilon_high, self.delta)
        # Clipping is tested on the exponent, before the safety rule, so that an unchanged policy, whose weights are
        # exactly 1, does not count as clipped at the lower bound of [1, 1.2].
        low, high = (math.log(bound) if bound > 0 else -math.inf for bound in bounds)
        moved = terms.mask & ((weights - 1).abs() > MOVED)
        diagnostics = clip_diagnostics(ratio, advantages, *clip) | {
            "influence_weight": weights,
            "influence_weight_at_low": exponent < low,
            "influence_weight_at_high": exponent > high,
            "future_kl": future,
            "influence_weight_moved": moved,
            "safety_fraction": unsafe(ratio, advantages, self.safety_threshold),
        }
        return clipped_surrogate(ratio, advantages * weights, *clip), diagnostics
