"""FIPO in TRL 1.16.0, which has none: its GRPOTrainer with this repository's loss, whose root is on PYTHONPATH.

    args = GRPOConfig(gradient_accumulation_steps=2, steps_per_generation=8, epsilon_high=0.28, delta=10.0)
    FIPOTrainer(model, reward, args, dataset, fipo={"decay_rate": 32.0, "safety_threshold": 10.0}).train()

FIPO weighs a token by how far the policy has moved since the rollout. TRL's defaults make one step per rollout:
nothing has moved, every weight is 1, and FIPO is DAPO. So they are refused. Above are 8 / 2 steps per rollout, the
first of which still is DAPO's; `num_iterations` makes more.

Averages are those of TRL's "dapo": a token weighs 1 / (the rollout's tokens per step), `token_mean` where a step takes
it whole. LEFT_OUT and images are refused; TRL's clip and entropy metrics and the authors' sequence filter are missing.
"""

from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from losses import LOSSES, LossBatch, LossOutput, token_weights

LEFT_OUT = {"loss_type": "dapo", "importance_sampling_level": "token", "beta": 0.0, "off_policy_mask_threshold": None}
LEFT_OUT |= {"top_entropy_quantile": 1.0, "entropy_coef": 0.0, "use_adaptive_entropy": False, "aux_loss_enabled": False}


class FIPOTrainer(GRPOTrainer):
    """GRPOTrainer with FIPO's loss: GRPOConfig gives epsilon, epsilon_high and delta, `fipo` the other settings."""

    def __init__(self, *args: Any, fipo: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, value in LEFT_OUT.items():
            if getattr(self, name) != value:
                raise ValueError(f"FIPOTrainer leaves {name} out: expected {value!r}, got {getattr(self, name)!r}")
        if self.args.gradient_accumulation_steps % (self.args.steps_per_generation * self.num_iterations) == 0:
            raise ValueError("one step per rollout makes FIPO DAPO: raise steps_per_generation or num_iterations")
        clip = {"epsilon_low": self.epsilon_low, "epsilon_high": self.epsilon_high, "delta": self.args.delta}
        self.fipo = LOSSES["fipo"](**clip, **(fipo or {}))

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if "pixel_values" in inputs:
            raise ValueError("FIPOTrainer leaves images out, got pixel_values")
        ids, attended = (torch.cat([inputs[f"prompt_{of}"], inputs[f"completion_{of}"]], 1) for of in ("ids", "mask"))
        mask = (inputs["completion_mask"] * inputs.get("tool_mask", 1)).bool()
        logprobs, _, _ = self._get_per_token_logps_and_entropies(model, ids, attended, mask.shape[1])
        advantages = inputs["advantages"][:, None].expand_as(logprobs)
        output = self.fipo(LossBatch(logprobs, inputs["old_per_token_logps"], advantages, mask))
        self.record(output)
        weights = token_weights(mask, "token_mean", totals=inputs["num_items_in_batch"].repeat(2))  # of the rollout
        weights = weights * self.accelerator.num_processes  # gradients are averaged over processes
        if self.model.training:  # and added up over a step's micro-batches
            weights = weights * self.args.steps_per_generation / self.current_gradient_accumulation_steps
        return (output.token_loss * inputs.get("importance_sampling_ratio", 1.0) * weights).sum()  # the ratio is vLLM's

    def record(self, output: LossOutput) -> None:
        """Add the means of our diagnostics over all processes to TRL's metrics, fipo/influence_weight for one."""
        sums = torch.stack([torch.stack([total.float(), count.float()]) for total, count in output.metrics.values()])
        sums = self.accelerator.reduce(sums, reduction="sum")
        for name, mean in zip(output.metrics, (sums[:, 0] / sums[:, 1].clamp(min=1)).tolist(), strict=True):
            self._metrics["train" if self.model.training else "eval"][f"fipo/{name}"].append(mean)
