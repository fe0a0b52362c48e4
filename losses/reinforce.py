"""REINFORCE's per-token loss: no ratio, no clip."""

from dataclasses import dataclass

from torch import Tensor

from losses.contract import Diagnostics
from losses.policy_loss import PolicyLoss, Terms


@dataclass(frozen=True, kw_only=True)
class REINFORCE(PolicyLoss):
    """REINFORCE with group-relative advantages (RGRA, arXiv 2603.18756, eq. 2), per token:

        L_t = -A log pi_theta + beta k3_t

    Averaged by `sequence_mean`. After the first update on a batch of rollouts its gradient is biased, since nothing
    corrects for the policy's change. RGRA keeps a KL, whose beta was not found. verl calls this `gpg`.
    """

    def per_token(self, terms: Terms) -> tuple[Tensor, Diagnostics]:
        """The weighted log-probability."""
        return -terms.advantages * terms.logprobs, {}
