"""Measures the mismatch between sampler and trainer, and corrects it with an importance weight.

A rollout engine uses different kernels, so it samples from a policy that differs slightly from the trainer's. The
losses' ratio is always between two policies of the trainer; a truncated importance weight of trainer over sampler can
be applied to any loss.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.backends.ranks import Ranks
from harness.config.scale import EngineSettings
from harness.config.schema import Config
from harness.errors import HarnessError


def correction_weights(
    gap: Float[Tensor, "sequence token"], mask: Bool[Tensor, "sequence token"], settings: EngineSettings
) -> Float[Tensor, "sequence token"]:
    """exp(gap) per token: capped (`truncate`), 0 outside [1/cap, cap] (`mask`), or always 1 (`none`).

    The gap is the trainer's log-probability minus the sampler's.
    """
    if settings.sampler_correction == "none":
        return torch.ones_like(gap)
    cap = settings.sampler_correction_cap
    weights = gap.masked_fill(~mask, 0.0).exp()
    if settings.sampler_correction == "truncate":
        return weights.clamp(max=cap)
    return weights.masked_fill((weights > cap) | (weights < 1 / cap), 0.0)


MAX_MEAN_GAP = {"float32": 1e-3, "bfloat16": 0.1}  # nats per token; rounding differences stay well below


def check_sampler_agrees(gap: "SamplerGap", config: Config) -> bool:
    """Whether the comparison was possible: False without tokens or with a non-finite gap, which the update reports.

    Raises HarnessError if sampler and trainer log-probabilities differ too much on average, since every ratio and every
    gradient would then be wrong.
    """
    mean = gap.absolute / gap.tokens if gap.tokens else math.nan
    allowed = config.engine.sync_tolerance or MAX_MEAN_GAP[config.model.dtype]
    if mean > allowed:
        raise HarnessError(
            f"expected the sampler's log-probabilities of the responses to be the trainer's, within {allowed:g} nats a "
            f"token, got {mean:.3g} (largest {gap.largest:.3g}): decoding token by token gives "
            "other values than reading whole texts; use another model or --engine, or raise --sync_tolerance"
        )
    return math.isfinite(mean)


@dataclass
class SamplerGap:
    """Trainer minus sampler log-probabilities over the tokens trained on, and the sum of those tokens' advantages."""

    tokens: int = 0
    advantages: float = 0.0
    absolute: float = 0.0  # sum of |gap|, nats
    largest: float = 0.0
    kl: float = 0.0  # sum of exp(gap) - 1 - gap: k3 estimate of KL(sampler || trainer) (Schulman 2020), nats

    def add(self, gap: Float[Tensor, "sequence token"], mask: Bool[Tensor, "sequence token"]) -> None:
        values = gap[mask].double()
        if len(values):
            self.tokens += len(values)
            self.absolute += float(values.abs().sum())
            self.largest = max(self.largest, float(values.abs().max()))
            self.kl += float((torch.expm1(values) - values).sum())

    def merged(self, ranks: Ranks) -> "SamplerGap":
        if ranks.world == 1:
            return self
        parts = ranks.gather(self, SamplerGap)
        totals = {name: sum(getattr(part, name) for part in parts) for name in vars(self)}
        return SamplerGap(**totals | {"largest": max(part.largest for part in parts)})

    def metrics(self) -> dict[str, float | None]:
        """Means per token, and the largest; None without tokens."""
        mean, kl = (total / self.tokens if self.tokens else None for total in (self.absolute, self.kl))
        largest = self.largest if self.tokens else None
        return {"sampler/logprob_gap_mean": mean, "sampler/logprob_gap_max": largest, "sampler/kl": kl}
