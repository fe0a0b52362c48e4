"""VESPO's per-token loss: a smooth kernel of the whole response's importance weight."""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from losses.contract import Diagnostics
from losses.parts.surrogate import masked
from losses.policy_loss import PolicyLoss, Terms

LOWEST, HIGHEST = log(1e-8), 20.0  # of log W; the highest of a token's log-ratio too


@dataclass(frozen=True, kw_only=True)
class VESPO(PolicyLoss):
    """Variational Sequence-Level Soft Policy Optimization (arXiv 2602.10693, section 3.4), per token:

        L_t = -sg(phi(W)) A log pi_theta + beta k3_t,   W = prod_t r_t,   phi(W) = W^k exp(lambda (1 - W))

    Averaged by `token_mean` in TRL. k and lambda depend on the sign of A, by default as in the authors' scripts. W is
    not normalised by length: long off-policy responses are dropped outright. Log-ratios are cut to +-20 and log W to
    [log 1e-8, 20], as in the authors' code and TRL; the authors choose k and lambda by the first token's advantage.
    """

    k_positive: float = 2.0  # where A >= 0
    lambda_positive: float = 3.0
    k_negative: float = 3.0  # where A < 0
    lambda_negative: float = 2.0

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        super().__post_init__()
        self.require_positive("k_positive", "lambda_positive", "k_negative", "lambda_negative")

    def per_token(self, terms: Terms) -> tuple[Tensor, Diagnostics]:
        """The weighted log-probability."""
        log_w = terms.log_ratio.detach().clamp(-HIGHEST, HIGHEST).sum(dim=1, keepdim=True).clamp(LOWEST, HIGHEST)
        positive = self.k_positive * log_w + self.lambda_positive * (1 - log_w.exp())
        negative = self.k_negative * log_w + self.lambda_negative * (1 - log_w.exp())
        phi = torch.where(terms.advantages < 0, negative, positive).exp()
        phi = masked(phi, terms.mask)
        return -phi * terms.advantages * terms.logprobs, {"response_weight": phi}
