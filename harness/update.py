"""Optimizer steps, and what the loss shows of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from harness.batching import MicroBatch
from harness.config import OptimizerSettings
from harness.policy import Policy, response_logprobs
from losses import Loss, LossBatch, LossOutput


@dataclass(frozen=True)
class KnownLogprobs:
    """What was known of a micro-batch before the first update."""

    old: Float[Tensor, "sequence token"]
    reference: Float[Tensor, "sequence token"] | None


@dataclass
class LossRecord:
    """Sums and counts of the loss's metrics over the updates of a training step."""

    names: Sequence[str]  # what the loss reports, so that a step without updates can say that it has none of it
    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gradient_norms: list[float] = field(default_factory=list)  # before clipping, one per update
    learning_rate: float | None = None  # of the last update
    response_weights: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    latest: tuple[MicroBatch, LossOutput] | None = None  # of the last update

    def add(self, batch: MicroBatch, output: LossOutput) -> None:
        """Count a micro-batch in."""
        metrics = output.metrics | {"token_loss": (output.token_loss.detach().sum(), output.mask.sum())}
        for name, (total, count) in metrics.items():
            self.totals[name] += float(total)
            self.counts[name] += float(count)
        if "influence_weight" in output.diagnostics:
            means = output.diagnostics["influence_weight"].sum(dim=1) / output.mask.sum(dim=1).clamp(min=1)
            for response, mean in zip(batch.responses, means.tolist(), strict=True):
                self.response_weights[response.key].append(mean)
        self.latest = (batch, output)

    def means(self) -> dict[str, float | None]:
        """The metrics by name; None without a token."""
        return {name: self.totals[name] / self.counts[name] if self.counts[name] else None for name in self.names}


def metric_names(loss: Loss) -> list[str]:
    """What a loss reports: the token loss and its diagnostics, asked of a batch without tokens."""
    empty = torch.zeros(1, 1)
    output = loss(LossBatch(empty, empty, empty, empty.bool(), reference_logprobs=empty))
    return ["token_loss", *output.diagnostics]


def make_optimizer(
    policy: Policy, settings: OptimizerSettings, updates_per_step: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, and its learning rate: a linear warm-up, then constant."""
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    warm = settings.warmup_steps * updates_per_step
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / max(warm, 1)))


@torch.no_grad()
def known_logprobs(
    policy: Policy, reference: Policy | None, minibatches: list[list[MicroBatch]], temperature: float
) -> list[list[KnownLogprobs]]:
    """Old and reference log-probabilities, by the trainer's own code and plan: the first ratios are exactly 1."""
    return [
        [
            KnownLogprobs(
                response_logprobs(policy, batch.tokens, temperature),
                response_logprobs(reference, batch.tokens, temperature) if reference else None,
            )
            for batch in minibatch
        ]
        for minibatch in minibatches
    ]


@dataclass(frozen=True)
class Updater:
    """What an optimizer step needs besides its minibatch."""

    policy: Policy
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    temperature: float
    grad_clip: float

    def step(self, minibatch: list[MicroBatch], known: list[KnownLogprobs], record: LossRecord) -> None:
        """One optimizer step, its gradients accumulated over the micro-batches."""
        self.optimizer.zero_grad()
        for batch, logprobs in zip(minibatch, known, strict=True):
            policy_logprobs = response_logprobs(self.policy, batch.tokens, self.temperature)
            mask = batch.tokens.mask
            output = self.loss(LossBatch(policy_logprobs, logprobs.old, batch.advantages, mask, logprobs.reference))
            (output.token_loss * batch.weights).sum().backward()
            record.add(batch, output)
        norm = torch.nn.utils.clip_grad_norm_(self.policy.model.parameters(), self.grad_clip)
        record.gradient_norms.append(float(norm))
        record.learning_rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.schedule.step()
