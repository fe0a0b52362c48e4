"""The frame of every loss: what enters its formula per token, and the KL to a reference that any of them may add."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from math import inf

from jaxtyping import Bool, Float
from torch import Tensor

from losses.contract import Diagnostics, LossBatch, LossOutput, LossSettingError
from losses.parts.precision import capped_exp
from losses.parts.surrogate import kl_to_reference, masked, policy_log_ratio


@dataclass(frozen=True)
class Terms:
    """What formulas are made of, each 0 (the ratio 1) where masked."""

    log_ratio: Float[Tensor, "sequence token"]  # log pi_theta - log pi_old
    logprobs: Float[Tensor, "sequence token"]  # log pi_theta
    old_logprobs: Float[Tensor, "sequence token"]
    advantages: Float[Tensor, "sequence token"]
    mask: Bool[Tensor, "sequence token"]
    influence_weights: Float[Tensor, "sequence token"] | None  # given ones, in place of the loss's own

    @cached_property
    def ratio(self) -> Float[Tensor, "sequence token"]:
        return capped_exp(self.log_ratio)

    def response_mean(self, values: Float[Tensor, "sequence token"]) -> Float[Tensor, "sequence 1"]:
        """The mean over each response's tokens; 0 for a response without tokens. `values` are 0 where masked."""
        mean: Tensor = values.sum(dim=1, keepdim=True) / self.mask.sum(dim=1, keepdim=True).clamp(min=1)
        return mean


@dataclass(frozen=True, kw_only=True)
class PolicyLoss(ABC):
    """L_t + beta k3_t, where a subclass gives L_t. The fields are the hyperparameters."""

    beta: float = 0.0  # weight of the KL to the reference; 0.04 in DeepSeekMath, 0 in DAPO and FIPO
    log_ratio_clamp: float | None = None  # clamp the log-ratio to +- this; 20.0 in the authors' code and in verl

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        if not 0 <= self.beta < inf:
            raise LossSettingError("beta", f"must be a finite number, 0 or above, got {self.beta}")
        if self.log_ratio_clamp is not None and not self.log_ratio_clamp > 0:
            raise LossSettingError("log_ratio_clamp", f"must be above 0, or none, got {self.log_ratio_clamp}")

    def require_positive(self, *fields: str) -> None:
        """Raise LossSettingError unless each of these fields is finite and above 0."""
        for field in fields:
            if not 0 < getattr(self, field) < inf:
                raise LossSettingError(field, f"must be a finite number above 0, got {getattr(self, field)}")

    def __call__(self, batch: LossBatch) -> LossOutput:
        """Token losses and diagnostics of one micro-batch."""
        batch = batch.widened()
        log_ratio = policy_log_ratio(batch, self.log_ratio_clamp)
        logprobs, old_logprobs, advantages = (
            masked(values, batch.mask) for values in (batch.policy_logprobs, batch.old_logprobs, batch.advantages)
        )
        terms = Terms(log_ratio, logprobs, old_logprobs, advantages, batch.mask, batch.influence_weights)
        token_loss, diagnostics = self.per_token(terms)
        if batch.influence_weights is not None and "influence_weight" not in diagnostics:
            token_loss = -advantages * masked(batch.influence_weights, batch.mask) * logprobs
        diagnostics = {"kl_to_old": -log_ratio.detach(), **diagnostics}
        if self.beta > 0:
            kl = kl_to_reference(batch)
            token_loss = token_loss + self.beta * kl
            diagnostics["kl_to_reference"] = kl.detach()
        return LossOutput(token_loss, diagnostics, batch.mask)

    @abstractmethod
    def per_token(self, terms: Terms) -> tuple[Float[Tensor, "sequence token"], Diagnostics]:
        """L_t, 0 where masked, and the loss's own diagnostics."""
