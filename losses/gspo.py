"""GSPO's loss: the ratio of a response in place of its tokens' ratios."""

from dataclasses import dataclass

from torch import Tensor

from losses.contract import Diagnostics, LossSettingError
from losses.parts.precision import capped_exp
from losses.parts.surrogate import clip_diagnostics, clipped_surrogate, masked
from losses.policy_loss import PolicyLoss, Terms


@dataclass(frozen=True, kw_only=True)
class GSPO(PolicyLoss):
    """Group Sequence Policy Optimization (arXiv 2507.18071, eq. 5 and 7), the response's loss at each of its tokens:

        L_t = max(-A s, -A clip(s, 1 - epsilon_low, 1 + epsilon_high)) + beta k3_t,   s = exp(mean_t l_t)

    Averaged by `sequence_mean`. The defaults are those of section 5.1, with four minibatches per batch of rollouts.
    `token_level` is the paper's token variant (eq. 13): s_t = sg(s) pi_t / sg(pi_t), another loss only if advantages
    differ within a response. verl's `gspo` is that variant, and cuts log s at 10, without gradient beyond.
    """

    epsilon_low: float = 3e-4  # lower clip bound of s is 1 - epsilon_low
    epsilon_high: float = 4e-4  # upper clip bound of s is 1 + epsilon_high
    token_level: bool = False  # clip each token, with its own advantage

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        super().__post_init__()
        if not 0 < self.epsilon_low < 1:
            raise LossSettingError("epsilon_low", f"must lie between 0 and 1, got {self.epsilon_low}")
        self.require_positive("epsilon_high")

    def per_token(self, terms: Terms) -> tuple[Tensor, Diagnostics]:
        """The clipped surrogate of the response's ratio, and where its clip stops the gradient."""
        log_s = terms.response_mean(terms.log_ratio)
        if self.token_level:
            log_s = log_s.detach() + terms.log_ratio - terms.log_ratio.detach()
        s = masked(capped_exp(log_s).expand_as(terms.log_ratio), terms.mask)
        clip = (self.epsilon_low, self.epsilon_high)
        return clipped_surrogate(s, terms.advantages, *clip, None), clip_diagnostics(s, terms.advantages, *clip)
