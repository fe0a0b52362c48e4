"""SAPO's per-token loss: a smooth gate in place of the clip."""

from dataclasses import dataclass

import torch
from torch import Tensor

from losses.contract import Diagnostics
from losses.policy_loss import PolicyLoss, Terms


@dataclass(frozen=True, kw_only=True)
class SAPO(PolicyLoss):
    """Soft Adaptive Policy Optimization (arXiv 2511.20347), per token:

        L_t = -A (4 / tau) sigmoid(tau (r_t - 1)) + beta k3_t,   tau = tau_positive if A > 0 else tau_negative

    Averaged by `sequence_mean`. The gradient is GRPO's at r = 1 and fades on both sides; the loss's value there is
    -2 A / tau. verl clamps log-ratios to +-20 (`log_ratio_clamp`); TRL rounds tau to float32.
    """

    tau_positive: float = 1.0  # temperature of the gate where A > 0
    tau_negative: float = 1.05  # temperature elsewhere: a larger one fades faster

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        super().__post_init__()
        self.require_positive("tau_positive", "tau_negative")

    def per_token(self, terms: Terms) -> tuple[Tensor, Diagnostics]:
        """The gated advantage."""
        positive = terms.ratio.new_tensor(self.tau_positive)
        tau = torch.where(terms.advantages > 0, positive, self.tau_negative)
        return -terms.advantages * (4 / tau) * torch.sigmoid(tau * (terms.ratio - 1)), {}
