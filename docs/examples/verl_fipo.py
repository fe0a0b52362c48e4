"""FIPO in verl 0.9.1, which has none: this repository's loss among verl's policy losses.

    VERL_USE_EXTERNAL_MODULES=verl_fipo PYTHONPATH=CHECKOUT:CHECKOUT/docs/examples python -m verl.trainer.main_ppo \\
      actor_rollout_ref.actor.policy_loss.loss_mode=fipo actor_rollout_ref.actor.clip_ratio_high=0.28 \\
      actor_rollout_ref.actor.clip_ratio_c=10.0 data.train_batch_size=512 actor_rollout_ref.actor.ppo_mini_batch_size=64

Ray's workers need both variables: on other machines, +ray_kwargs.ray_init.runtime_env.env_vars.NAME=VALUE.

FIPO weighs a token by how far the policy has moved since the rollout. With one update per rollout nothing has moved,
every weight is 1, and FIPO is DAPO: ppo_mini_batch_size must be below train_batch_size, or ppo_epochs above 1. Above
are 512 / 64 updates, the first of which still is DAPO's. A loss cannot see train_batch_size: FIPO is inert where the
metric actor/fipo/influence_weight_moved stays 0. With algorithm.rollout_correction.bypass_mode the old
log-probabilities are the engine's, whose noise FIPO adds up.

Averages, KL and entropy are verl's, over the global mini-batch. Left out is the authors' sequence filter, whose
tokens verl's global count would keep.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss, register_policy_loss

from losses import LOSSES, LossBatch

PolicyLoss = Callable[..., tuple[Tensor, dict[str, float]]]


def fipo_policy_loss(**settings: Any) -> PolicyLoss:
    """A policy loss for verl with these of FIPO's settings; epsilons and delta are those of verl's actor."""
    settings = {"log_ratio_clamp": 20.0} | settings  # as in verl's own losses

    def policy_loss(
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str,
        config: Any,
        rollout_is_weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        loss = LOSSES["fipo"](
            epsilon_low=config.clip_ratio_low,
            epsilon_high=config.clip_ratio_high,
            delta=config.clip_ratio_c,
            **settings,
        )
        output = loss(LossBatch(log_prob, old_log_prob, advantages, response_mask.bool()))
        token_loss = output.token_loss if rollout_is_weights is None else output.token_loss * rollout_is_weights
        means = {name: float(total / count.clamp(min=1)) for name, (total, count) in output.metrics.items()}
        loss_mean = agg_loss(token_loss, response_mask, loss_agg_mode, **config.global_batch_info)
        return loss_mean, {f"actor/fipo/{name}": mean for name, mean in means.items()}

    return policy_loss


register_policy_loss("fipo")(fipo_policy_loss(decay_rate=32.0, clip_range=0.2, safety_threshold=10.0))  # 32B recipe
