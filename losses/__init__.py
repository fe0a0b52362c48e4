"""GRPO, DAPO, FIPO and their rivals as interchangeable losses per token. Needs only torch: no files, no randomness."""

from losses.cispo import CISPO
from losses.contract import Loss, LossBatch, LossOutput, LossSettingError
from losses.dapo import DAPO
from losses.dppo import DPPO
from losses.fipo import FIPO
from losses.gmpo import GMPO
from losses.grpo import GRPO
from losses.gspo import GSPO
from losses.parts.advantages import group_advantages
from losses.parts.averaging import AVERAGING_MODES, mask_totals, token_weights
from losses.parts.future_kl import future_kl, influence_weights
from losses.parts.surrogate import sequence_filter
from losses.policy_loss import PolicyLoss
from losses.reinforce import REINFORCE
from losses.sapo import SAPO
from losses.vespo import VESPO

LOSSES: dict[str, type[PolicyLoss]] = {
    "grpo": GRPO,
    "dapo": DAPO,
    "fipo": FIPO,
    "gspo": GSPO,
    "cispo": CISPO,
    "sapo": SAPO,
    "dppo": DPPO,
    "gmpo": GMPO,
    "reinforce": REINFORCE,
    "vespo": VESPO,
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
