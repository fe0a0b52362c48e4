"""GRPO, DAPO and FIPO as interchangeable per-token losses. Needs only torch; no files, clocks or randomness."""

from losses.advantages import group_advantages
from losses.averaging import AVERAGING_MODES, mask_totals, token_weights
from losses.contract import Loss, LossBatch, LossOutput, LossSettingError
from losses.dapo import DAPO
from losses.fipo import FIPO
from losses.future_kl import future_kl, influence_weights
from losses.grpo import GRPO
from losses.sequence_filter import sequence_filter

LOSSES: dict[str, type[GRPO]] = {
    "grpo": GRPO,
    "dapo": DAPO,
    "fipo": FIPO,
}

__all__ = [
    "AVERAGING_MODES",
    "DAPO",
    "FIPO",
    "GRPO",
    "LOSSES",
    "Loss",
    "LossBatch",
    "LossOutput",
    "LossSettingError",
    "future_kl",
    "group_advantages",
    "influence_weights",
    "mask_totals",
    "sequence_filter",
    "token_weights",
]
