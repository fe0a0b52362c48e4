"""GRPO's per-token loss."""

from dataclasses import dataclass
from math import inf

from torch import Tensor

from losses.contract import Diagnostics, LossSettingError
from losses.parts.surrogate import clip_diagnostics, clipped_surrogate
from losses.policy_loss import PolicyLoss, Terms


@dataclass(frozen=True, kw_only=True)
class GRPO(PolicyLoss):
    """Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300, eq. 3), per token:

        L_t = max(-A r_t, -A clip(r_t, 1 - epsilon_low, 1 + epsilon_high)) + beta k3_t

    The averaging `1/G sum 1/|o| sum` of eq. 3 is `token_weights(mask, "sequence_mean")`.
    """

    epsilon_low: float = 0.2  # lower clip bound of the ratio is 1 - epsilon_low
    epsilon_high: float = 0.2  # upper clip bound of the ratio is 1 + epsilon_high
    delta: float | None = None  # dual clip for A < 0; verl always has one, the paper none

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        super().__post_init__()
        if not 0 < self.epsilon_low < 1:
            raise LossSettingError("epsilon_low", f"must lie between 0 and 1, got {self.epsilon_low}")
        self.require_positive("epsilon_high")
        if self.delta is not None and not 1 + self.epsilon_high < self.delta < inf:
            bound = f"1 + epsilon_high = {1 + self.epsilon_high:g}"
            raise LossSettingError("delta", f"must be finite and exceed {bound}, got {self.delta}: use 10, or none")

    def per_token(self, terms: Terms) -> tuple[Tensor, Diagnostics]:
        """The clipped surrogate, and where its clip stops the gradient."""
        clip = (self.epsilon_low, self.epsilon_high, self.delta)
        diagnostics = clip_diagnostics(terms.ratio, terms.advantages, *clip)
        return clipped_surrogate(terms.ratio, terms.advantages, *clip), diagnostics
