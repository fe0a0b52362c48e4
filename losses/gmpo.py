"""GMPO's loss: the geometric mean of a response's clipped ratios."""

from dataclasses import dataclass

import torch
from torch import Tensor

from losses.contract import Diagnostics
from losses.parts.precision import capped_exp
from losses.parts.surrogate import masked
from losses.policy_loss import PolicyLoss, Terms


@dataclass(frozen=True, kw_only=True)
class GMPO(PolicyLoss):
    """Geometric-Mean Policy Optimization (arXiv 2507.20673, section 3), the response's loss at each of its tokens:

        L_t = -A exp(mean_t l'_t) + beta k3_t,   l' = min(l, log_clip_high) if A > 0, max(l, -log_clip_low) if A < 0

    Averaged by `sequence_mean`; A is the response's mean advantage. Each token is clipped before the mean (GSPO: after)
    and on one side only. A token whose own advantage is 0 counts as l' = 0, as in verl, whose default bound is 0.2.
    """

    log_clip_low: float = 0.4  # lowest log-ratio is -log_clip_low
    log_clip_high: float = 0.4  # highest log-ratio

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        super().__post_init__()
        self.require_positive("log_clip_low", "log_clip_high")

    def per_token(self, terms: Terms) -> tuple[Tensor, Diagnostics]:
        """The response's loss at each of its tokens, and where the clip stops a token's gradient."""
        log_ratio, positive, negative = terms.log_ratio, terms.advantages > 0, terms.advantages < 0
        cut = torch.where(negative, log_ratio.clamp(min=-self.log_clip_low), torch.zeros_like(log_ratio))
        cut = torch.where(positive, log_ratio.clamp(max=self.log_clip_high), cut)
        diagnostics = {
            "clip_fraction_low": negative & (log_ratio < -self.log_clip_low),
            "clip_fraction_high": positive & (log_ratio > self.log_clip_high),
        }
        loss = -terms.response_mean(terms.advantages) * capped_exp(terms.response_mean(cut))
        return masked(loss.expand_as(cut), terms.mask), diagnostics
