"""Measures numerical noise: how far ratios and influence weights are from 1 before any weight has changed.

FIPO sums log-ratios and so accumulates noise over a response. Noise of 0.05 per token, as between two different
micro-batch splits in bfloat16, saturates its weights.
"""

import math
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from harness.algorithm.batching import MicroBatch
from harness.algorithm.metrics import Metrics
from harness.algorithm.update import KnownLogprobs, Updater
from harness.errors import HarnessError


@dataclass(frozen=True)
class Noise:
    """The largest distances from 1; `influence_weight` is None if the loss has no influence weights."""

    ratio: float
    influence_weight: float | None


def checked_noise(
    updater: Updater, minibatches: list[list[MicroBatch]], known: list[list[KnownLogprobs]]
) -> Noise | None:
    """The noise of a run's first updates; None if it is NaN, which the update reports.

    Raises HarnessError if it exceeds the tolerance.
    """
    noise = measure_noise(updater, minibatches, known)
    allowed = updater.config.optimizer.noise_tolerance
    if allowed is None:
        allowed = tolerance(updater.policy.device.type, str(updater.policy.model.dtype).removeprefix("torch."))
    found = float(np.max([noise.ratio, noise.influence_weight or 0.0]))  # unlike max, np.max propagates NaN
    if math.isnan(found):
        return None
    if found > allowed:
        raise HarnessError(
            f"expected old and new log-probabilities of the same weights to give ratios and influence weights within "
            f"{allowed:g} of 1, got {found:.2g} off: the two passes differ in dtype, kernels or micro-batches (and "
            "bfloat16 rounds differently in batches of other shapes): compute both alike, or raise --noise_tolerance"
        )
    return noise


def tolerance(device: str, dtype: str) -> float:
    """The default tolerance for a device and dtype. The values for GPUs have not been tested on a GPU yet."""
    # On a CPU the two passes are bit-identical, also in bfloat16. On a GPU results may differ in the last bits between
    # calls, but the tolerance must still detect different micro-batches. Measured on a CPU with the demo's model and
    # batch, those change a ratio by at most 1.9e-6 in float32 and 0.019 in bfloat16 (a Future-KL by 2.3e-6 and 0.020).
    return 0.0 if device == "cpu" else {"float32": 1e-5, "bfloat16": 1e-3}[dtype]


def measure_noise(updater: Updater, minibatches: list[list[MicroBatch]], known: list[list[KnownLogprobs]]) -> Noise:
    """Compare old log-probabilities with the same ones recomputed as in an update, with gradients enabled."""
    own: list[tuple[float, float | None]] = []
    for batch, old in zip(chain(*minibatches), chain(*known), strict=True):
        mask, diagnostics = batch.tokens.mask, updater.forward(batch, old, batch.tokens.mask).output.diagnostics
        if mask.any():  # else an idle batch, or the overlong filter masks all of it
            weight = diagnostics.get("influence_weight")
            off = None if weight is None else float((weight[mask] - 1).abs().max())
            own.append((float(torch.expm1(-diagnostics["kl_to_old"]).abs().max()), off))
    found = list(chain(*updater.backend.ranks.gather(own, list[tuple[float, float | None]])))
    if not found:
        return Noise(math.nan, None)
    ratios, weights = zip(*found, strict=True)
    return Noise(float(np.max(ratios)), None if None in weights else float(np.max(weights)))


def noise_metrics(noise: Noise | None, loss_metrics: list[str]) -> Metrics:
    """The run's noise as metrics; None before it has been measured."""
    metrics: Metrics = {"noise/ratio": noise.ratio if noise else None}
    if "influence_weight" in loss_metrics:
        metrics["noise/influence_weight"] = noise.influence_weight if noise else None
    return metrics
