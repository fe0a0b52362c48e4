"""The weights that a loss gives to tokens, whatever its formula, and how unequal they are over a training step."""

from dataclasses import dataclass, field, replace
from math import isnan
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.backends.ranks import Ranks
from losses import Loss, LossBatch
from losses.fipo import MOVED

PER_OCTAVE, LOWEST, HIGHEST = 512, -16, 64  # bins of weights from 2^-16 to 2^64, each 0.14 % wide
BINS = (HIGHEST - LOWEST) * PER_OCTAVE + 2  # the first one is for weights of 0
METRICS = "weights/gini", "weights/effective_share", "weights/zero_share", "weights/moved_share"


def gradient_weights(loss: Loss, batch: LossBatch) -> Float[Tensor, "sequence token"]:
    """w_t, such that the gradient of the summed token losses is -sum_t A_t w_t grad log pi_t; without the KL of beta.

    1 for REINFORCE; for GRPO and DAPO the ratio, or 0 where a clip stops the gradient; for FIPO this times the
    influence weight. 0 where the mask is False or A is 0.
    """
    anyone: Any = loss
    without_kl = replace(anyone, beta=0.0) if getattr(loss, "beta", 0.0) else anyone
    with torch.enable_grad():
        logprobs = batch.policy_logprobs.detach().requires_grad_()
        total = without_kl(replace(batch, policy_logprobs=logprobs)).token_loss.sum()
        (slope,) = torch.autograd.grad(total, logprobs)
    return torch.where(batch.mask & (batch.advantages != 0), -slope / batch.advantages, 0.0)


@dataclass
class WeightSpread:
    """Sums over the trained tokens that have an advantage, which can be added over micro-batches and ranks."""

    bins: Float[Tensor, "2 bin"] = field(default_factory=lambda: torch.zeros(2, BINS, dtype=torch.float64))
    sums: Float[Tensor, "3"] = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def add(self, weights: Float[Tensor, " token"]) -> None:
        """weights: those of tokens that are trained and have an advantage."""
        size = weights.detach().double().cpu().abs()  # on a GPU a weighted bincount adds in no fixed order
        place = ((size.log2() - LOWEST) * PER_OCTAVE).round() + 1
        bins = torch.where(size > 0, place.clamp(1, BINS - 1), 0).long()
        self.bins += torch.stack([torch.bincount(bins, values, BINS) for values in (torch.ones_like(size), size)])
        self.sums += torch.stack([(size**2).sum(), (size == 0).sum(), ((size - 1).abs() > MOVED).sum()])

    def merged(self, ranks: Ranks) -> "WeightSpread":
        """The sum over ranks. Collective."""
        return WeightSpread(ranks.sum(self.bins), ranks.sum(self.sums))

    def metrics(self) -> dict[str, float | None]:
        """The metrics of docs/run_folder.md; None without tokens, and without a weight above 0 no Gini coefficient."""
        (count, total), (squares, zero, moved) = self.bins.sum(dim=1).tolist(), self.sums.tolist()
        if not count:
            return dict.fromkeys(METRICS)
        effective = total**2 / (count * squares) if squares else 0.0
        return dict(zip(METRICS, (self.gini(), effective, zero / count, moved / count), strict=True))

    def gini(self) -> float | None:
        """Half the mean difference between two tokens' weights, over the mean weight: 0 if all are alike, 1 at most."""
        tokens, weight = self.bins / self.bins.sum(dim=1, keepdim=True)
        reached = weight.cumsum(dim=0)  # the Lorenz curve; its trapezoids' area is exact up to the bins' width
        gini = 1 - float((tokens * (2 * reached - weight)).sum())
        return None if isnan(gini) else max(0.0, gini)
