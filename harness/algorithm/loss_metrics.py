"""Metrics of the loss over a training step's updates."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.algorithm.batching import MicroBatch
from harness.algorithm.gradient_weights import WeightSpread
from harness.backends.ranks import Ranks
from losses import Loss, LossBatch, LossOutput

Mask = Bool[Tensor, "sequence token"]
ByResponse = list[tuple[tuple[str, int], list[float]]]  # (prompt, sample), values


@dataclass(frozen=True)
class Forward:
    """What a micro-batch's loss gives under the current policy."""

    output: LossOutput
    entropy: Float[Tensor, "sequence token"]
    weights: Float[Tensor, "sequence token"]  # gradient_weights of the loss


@dataclass
class LossRecord:
    """Sums and counts of the loss's metrics over a training step."""

    names: Sequence[str]  # names of all metrics; a step without updates reports None for each
    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gradient_norms: list[float] = field(default_factory=list)  # before clipping, one per update
    step_norms: list[float] = field(default_factory=list)  # of the change to the weights; empty with DeepSpeed
    skipped: int = 0  # updates not made because something was not finite
    learning_rate: float | None = None  # of the last update
    response_weights: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    weights: WeightSpread = field(default_factory=WeightSpread)
    latest: tuple[MicroBatch, LossOutput] | None = None  # the last micro-batch with a token to train on

    def add(self, batch: MicroBatch, forward: Forward) -> None:
        if not batch.responses:
            return
        output = forward.output
        tokens = output.mask.sum(dim=1)
        entropy = forward.entropy.masked_fill(~output.mask, 0.0)
        sums = {"token_loss": output.token_loss.detach().sum(), "entropy": entropy.sum()}
        metrics = output.metrics | {name: (total, tokens.sum()) for name, total in sums.items()}
        metrics["filtered_responses"] = ((tokens == 0).sum(), torch.tensor(len(tokens)))
        for name, (total, count) in metrics.items():
            self.totals[name] += float(total)
            self.counts[name] += float(count)
        if "influence_weight" in output.diagnostics:
            means = output.diagnostics["influence_weight"].sum(dim=1) / tokens
            for response, mean, trained in zip(batch.responses, means.tolist(), tokens.tolist(), strict=True):
                if trained:
                    self.response_weights[response.key].append(mean)
        self.weights.add(forward.weights[output.mask & (batch.advantages != 0)])
        if output.mask.any():
            self.latest = (batch, output)

    def merged(self, ranks: Ranks) -> "LossRecord":
        """The record summed over ranks. Norms, skips and learning rate are already the same on each."""
        if ranks.world == 1:
            return self
        kept = (dict(self.totals), dict(self.counts), list(self.response_weights.items()))
        whole = replace(self, totals=defaultdict(float), counts=defaultdict(float), response_weights={})
        whole.weights = self.weights.merged(ranks)
        for totals, counts, weights in ranks.gather(kept, tuple[dict[str, float], dict[str, float], ByResponse]):
            for name, total in totals.items():
                whole.totals[name] += total
                whole.counts[name] += counts[name]
            whole.response_weights |= dict(weights)
        return whole

    @property
    def trained_tokens(self) -> int:
        """Response tokens summed over all optimizer steps."""
        return int(self.counts.get("token_loss", 0))

    def means(self) -> dict[str, float | None]:
        """Mean per token by metric; None without tokens."""
        counts = {name: self.counts.get(name, 0) for name in self.names}
        return {name: self.totals[name] / count if count else None for name, count in counts.items()}


def metric_names(loss: Loss) -> list[str]:
    """Names of the metrics that a step reports: those that all losses have, then the loss's diagnostics."""
    empty = torch.zeros(1, 1)
    output = loss(LossBatch(empty, empty, empty, empty.bool(), reference_logprobs=empty))
    return ["token_loss", "entropy", "filtered_responses", *output.diagnostics]
