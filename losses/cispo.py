"""CISPO's per-token loss: the importance weight is clipped, the update is not."""

from dataclasses import dataclass

from torch import Tensor

from losses.contract import Diagnostics, LossSettingError
from losses.policy_loss import PolicyLoss, Terms


@dataclass(frozen=True, kw_only=True)
class CISPO(PolicyLoss):
    """Clipped IS-weight Policy Optimization (MiniMax-M1, arXiv 2506.13585, eq. 4-5), per token:

        L_t = -A sg(clip(r_t, ratio_min, ratio_max)) log pi_theta + beta k3_t

    Averaged by `token_mean`. No token loses its gradient, however far its ratio went. The paper sets no lower bound and
    does not print the upper one; 5 is ScaleRL's (arXiv 2510.13786). TRL and ms-swift cut at `epsilon_high`, by default
    0.2, so every weight is 0.2 (`ratio_max` 0.2); verl cuts to [0.8, 1.2], and its example script to [0, 1.2].
    """

    ratio_max: float = 5.0  # importance weights are cut to at most this
    ratio_min: float = 0.0  # and to at least this

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        super().__post_init__()
        self.require_positive("ratio_max")
        if not 0 <= self.ratio_min <= self.ratio_max:
            raise LossSettingError("ratio_min", f"must lie in [0, {self.ratio_max:g}], got {self.ratio_min}")

    def per_token(self, terms: Terms) -> tuple[Tensor, Diagnostics]:
        """The weighted log-probability, and where a bound cuts its weight."""
        ratio = terms.ratio.detach()
        diagnostics = {
            "weight_at_min": terms.mask & (ratio < self.ratio_min),
            "weight_at_max": terms.mask & (ratio > self.ratio_max),
        }
        return -terms.advantages * ratio.clamp(self.ratio_min, self.ratio_max) * terms.logprobs, diagnostics
