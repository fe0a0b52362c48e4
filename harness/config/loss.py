"""The settings of the loss: its name, what all losses share, and what one loss alone has, under its name as prefix."""

from typing import Any, Literal, get_args

from pydantic import model_validator

from harness.config.base import Section, setting
from harness.errors import UsageError

# The names that losses/ has, written again because importing it takes torch and thus seconds; a test compares them.
LossType = Literal["grpo", "dapo", "fipo", "gspo", "cispo", "sapo", "dppo", "gmpo", "reinforce", "vespo"]
Averaging = Literal["token_mean", "sequence_mean", "constant", "sequence_sum"]
AdvantageScale = Literal["group", "batch", "none"]
Placebo = Literal["none", "sign_mean", "response_mean", "position", "shuffle_within", "shuffle_batch", "other_response"]
LOSS_TYPES: tuple[str, ...] = get_args(LossType)
DEFAULT_AVERAGING: dict[str, Averaging] = {
    "grpo": "sequence_mean",  # DeepSeekMath eq. 3
    "dapo": "token_mean",  # DAPO eq. 12
    "fipo": "token_mean",
    "gspo": "sequence_mean",  # GSPO eq. 5
    "cispo": "token_mean",  # MiniMax-M1 eq. 4
    "sapo": "sequence_mean",  # SAPO
    "dppo": "constant",  # verl's script
    "gmpo": "sequence_mean",  # GMPO section 3
    "reinforce": "sequence_mean",  # RGRA eq. 2
    "vespo": "token_mean",  # TRL
}
OF_ALL = {
    "loss_type",
    "averaging",
    "sequence_filter",
    "advantage_scale",
    "advantage_std_eps",
    "placebo",
}  # around the formula
OWN_PREFIXES = tuple(f"{name}_" for name in LOSS_TYPES)  # prefixes of settings that belong to one loss


class LossSettings(Section):
    """The loss, with names and defaults of the published page. losses/ gives the sources."""

    loss_type: LossType = setting("grpo", "Per-token formula.")
    averaging: Averaging = setting("sequence_mean", "Token weights. Default: as the loss was published.")
    epsilon: float = setting(0.2, "Lower clip bound of the ratio, 1 - epsilon.")
    epsilon_high: float = setting(0.2, "Upper clip bound, 1 + epsilon_high. Default: epsilon.")
    delta: float | None = setting(None, "Dual clip for negative advantages; FIPO's token filter.")
    beta: float = setting(0.0, "Weight of the KL to the initial policy (k3).")
    log_ratio_clamp: float | None = setting(None, "Cut log-ratios at +- this (the authors: 20).")
    sequence_filter: bool = setting(False, "Drop responses with two or more dual-clipped tokens, as the authors do.")
    advantage_scale: AdvantageScale = setting("group", "Std that divides advantages, if any.")
    advantage_std_eps: float = setting(1e-6, "Added to that std (page: 1e-4).", ge=0)
    placebo: Placebo = setting(
        "none",
        "Take the credit out of a loss's token weights: their mean per sign of the advantage, response or distance to "
        "the end, permuted within each response or over the optimizer step, or another response's.",
    )
    fipo_decay_rate: float = setting(32.0, "Half-life of the Future-KL discount, tokens (> 0).")
    fipo_clip_range: float | None = setting(0.2, "How far an influence weight may lie from 1; 0 or none: anywhere.")
    fipo_clip_high_only: bool = setting(True, "Weights in [1, 1 + range]; false: in [1 - range, 1 + range], range < 1.")
    fipo_safety_threshold: float | None = setting(
        4.0, "Ratio (> 0) above which a negative token's weight is in [0.8, 1]."
    )
    fipo_filter_in_log_space: bool = setting(False, "Filter on log-ratios, as the authors do.")
    fipo_weight_bound: float | None = setting(None, "Largest weight (>= 1) without a clip range (the authors: 10).")
    fipo_signed: bool = setting(False, "Weights exp(sign(A) F): the same direction for right and wrong responses.")
    gspo_epsilon_low: float = setting(3e-4, "Lower clip bound of a response's ratio, 1 - this.")
    gspo_epsilon_high: float = setting(4e-4, "Upper clip bound of a response's ratio, 1 + this.")
    gspo_token_level: bool = setting(False, "Clip each token with its own advantage (verl's gspo).")
    cispo_ratio_max: float = setting(5.0, "Largest importance weight (TRL's and ms-swift's default: 0.2, verl's: 1.2).")
    cispo_ratio_min: float = setting(0.0, "Smallest importance weight (verl's default: 0.8).")
    sapo_tau_positive: float = setting(1.0, "Temperature of the gate where the advantage is above 0.")
    sapo_tau_negative: float = setting(1.05, "Temperature of the gate elsewhere.")
    dppo_divergence: Literal["tv", "kl"] = setting("tv", "Total variation or KL of the sampled token's probability.")
    dppo_threshold_high: float | None = setting(
        None, "Largest divergence of a token whose probability should rise; none: 0.15 for tv, 0.05 for kl."
    )
    dppo_threshold_low: float | None = setting(None, "The same of a token whose probability should fall.")
    dppo_ratio_max: float = setting(1e4, "Largest importance weight (verl's default: 3, TRL's: 20).")
    gmpo_log_clip_low: float = setting(0.4, "Lowest log-ratio, - this, where the advantage is below 0.")
    gmpo_log_clip_high: float = setting(0.4, "Highest log-ratio where the advantage is above 0.")
    vespo_k_positive: float = setting(2.0, "Power of the response's weight where the advantage is not below 0.")
    vespo_lambda_positive: float = setting(3.0, "Decay of large weights there.")
    vespo_k_negative: float = setting(3.0, "Power of the response's weight where the advantage is below 0.")
    vespo_lambda_negative: float = setting(2.0, "Decay of large weights there.")

    @model_validator(mode="before")
    @classmethod
    def fill_dependent_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Fill in averaging, whose default depends on the loss, and epsilon_high, whose default is epsilon."""
        values = dict(values)
        if values.get("averaging") is None:  # stays None for a loss without a default, which pydantic rejects
            values["averaging"] = DEFAULT_AVERAGING.get(str(values.get("loss_type", "grpo")))
        if values.get("epsilon_high") is None:
            values["epsilon_high"] = values.get("epsilon", 0.2)
        return values

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads log-probabilities under the initial policy."""
        return self.beta > 0

    @property
    def has_placebo(self) -> bool:
        """Whether the loss's token weights are replaced by a placebo."""
        return self.placebo != "none"

    @property
    def unused(self) -> set[str]:
        """The settings of losses that this loss does not read."""
        read = {self.flag(name) for name in self.loss_fields()} | OF_ALL
        return type(self).model_fields.keys() - read - ({"delta"} if self.sequence_filter else set())

    def flag(self, field: str) -> str:
        """The flag that sets a field of the loss; fields of one loss only have its name as prefix."""
        own = f"{self.loss_type}_{field}"
        return own if own in type(self).model_fields else {"epsilon_low": "epsilon"}.get(field, field)

    def loss_fields(self) -> dict[str, Any]:
        """The keyword arguments of `LOSSES[loss_type]`. Raises UsageError if one of its fields has no setting."""
        from losses import LOSSES

        fields = LOSSES[self.loss_type].__dataclass_fields__
        try:
            return {field: getattr(self, self.flag(field)) for field in fields}
        except AttributeError as error:
            raise UsageError(f"--loss_type {self.loss_type}: {error}: write its setting into {__file__}") from None


def is_anothers(flag: str, loss_type: str) -> bool:
    """Whether the flag belongs to another loss than this one."""
    return flag.startswith(OWN_PREFIXES) and not flag.startswith(f"{loss_type}_")
