"""GRPO's per-token loss."""

from dataclasses import dataclass

from losses.contract import LossBatch, LossOutput, LossSettingError
from losses.precision import capped_exp
from losses.surrogate import clip_diagnostics, clipped_surrogate, masked, policy_log_ratio, with_kl


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """Group Relative Policy Optimization (DeepSeekMath, arXiv 2402.03300, eq. 3), per token:

        L_t = max(-A r_t, -A clip(r_t, 1 - epsilon_low, 1 + epsilon_high)) + beta k3_t

    The averaging `1/G sum 1/|o| sum` of eq. 3 is `token_weights(mask, "sequence_mean")`.
    """

    epsilon_low: float = 0.2  # lower clip bound of the ratio is 1 - epsilon_low
    epsilon_high: float = 0.2  # upper clip bound of the ratio is 1 + epsilon_high
    delta: float | None = None  # dual clip for A < 0; verl always has one, the paper none
    beta: float = 0.0  # weight of the KL to the reference; 0.04 in DeepSeekMath, 0 in DAPO and FIPO
    log_ratio_clamp: float | None = None  # clamp the log-ratio to +- this; 20.0 in the authors' code

    def __post_init__(self) -> None:
        """Raise LossSettingError if a field is out of range."""
        if not 0 < self.epsilon_low < 1:
            raise LossSettingError("epsilon_low", f"must lie between 0 and 1, got {self.epsilon_low}")
        if not 0 < self.epsilon_high < float("inf"):
            raise LossSettingError("epsilon_high", f"must be a finite number above 0, got {self.epsilon_high}")
        if self.delta is not None and not 1 + self.epsilon_high < self.delta < float("inf"):
            bound = f"1 + epsilon_high = {1 + self.epsilon_high:g}"
            raise LossSettingError("delta", f"must be finite and exceed {bound}, got {self.delta}: use 10, or none")
        if not 0 <= self.beta < float("inf"):
            raise LossSettingError("beta", f"must be a finite number, 0 or above, got {self.beta}")
        if self.log_ratio_clamp is not None and not self.log_ratio_clamp > 0:
            raise LossSettingError("log_ratio_clamp", f"must be above 0, or none, got {self.log_ratio_clamp}")

    def __call__(self, batch: LossBatch) -> LossOutput:
        """Token losses and diagnostics of one micro-batch."""
        batch = batch.widened()
        log_ratio = policy_log_ratio(batch, self.log_ratio_clamp)
        ratio = capped_exp(log_ratio)
        advantages = masked(batch.advantages, batch.mask)
        clip = (self.epsilon_low, self.epsilon_high, self.delta)
        token_loss = clipped_surrogate(ratio, advantages, *clip)
        return with_kl(batch, token_loss, clip_diagnostics(log_ratio, ratio, advantages, *clip), self.beta)
