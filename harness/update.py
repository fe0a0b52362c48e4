"""Optimizer steps, and what the loss shows of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.batching import MicroBatch
from harness.config import Config, OptimizerSettings
from harness.policy import Policy, response_logprobs
from losses import Loss, LossBatch, LossOutput, mask_totals, sequence_filter, token_weights

Mask = Bool[Tensor, "sequence token"]


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
    latest: tuple[MicroBatch, LossOutput] | None = None  # the last micro-batch with a token to train on

    def add(self, batch: MicroBatch, output: LossOutput, entropy: Float[Tensor, "sequence token"]) -> None:
        """Count a micro-batch in."""
        tokens = output.mask.sum(dim=1)
        of_tokens = {"token_loss": output.token_loss, "entropy": entropy.masked_fill(~output.mask, 0.0)}
        metrics = output.metrics | {name: (values.detach().sum(), tokens.sum()) for name, values in of_tokens.items()}
        metrics["filtered_responses"] = ((tokens == 0).sum(), torch.tensor(len(tokens)))
        for name, (total, count) in metrics.items():
            self.totals[name] += float(total)
            self.counts[name] += float(count)
        if "influence_weight" in output.diagnostics:
            means = output.diagnostics["influence_weight"].sum(dim=1) / tokens
            for response, mean, trained in zip(batch.responses, means.tolist(), tokens.tolist(), strict=True):
                if trained:
                    self.response_weights[response.key].append(mean)
        if output.mask.any():
            self.latest = (batch, output)

    def means(self) -> dict[str, float | None]:
        """The metrics by name; None without a token."""
        return {name: self.totals[name] / self.counts[name] if self.counts[name] else None for name in self.names}


def metric_names(loss: Loss) -> list[str]:
    """What a step's record says: of every loss the same, then its diagnostics, asked of a batch without tokens."""
    empty = torch.zeros(1, 1)
    output = loss(LossBatch(empty, empty, empty, empty.bool(), reference_logprobs=empty))
    return ["token_loss", "entropy", "filtered_responses", *output.diagnostics]


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
                response_logprobs(policy, batch.tokens, temperature)[0],
                response_logprobs(reference, batch.tokens, temperature)[0] if reference else None,
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
    config: Config

    def step(self, minibatch: list[MicroBatch], known: list[KnownLogprobs], record: LossRecord) -> None:
        """One optimizer step, its gradients accumulated over the micro-batches.

        Token weights are taken from the step's totals, so that the micro-batches cannot change the gradient.
        """
        self.optimizer.zero_grad()
        masks = self.trained_masks(minibatch, known)
        totals = torch.stack([mask_totals(mask) for mask in masks]).sum(dim=0)
        for batch, logprobs, mask in zip(minibatch, known, masks, strict=True):
            output, entropy = self.loss_of(batch, logprobs, mask)
            limit = self.config.rollout.max_response_tokens
            weights = token_weights(mask, self.config.loss.averaging, limit, totals)
            (output.token_loss * weights).sum().backward()
            record.add(batch, output, entropy)
        norm = torch.nn.utils.clip_grad_norm_(self.policy.model.parameters(), self.config.optimizer.grad_clip)
        record.gradient_norms.append(float(norm))
        record.learning_rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.schedule.step()

    def loss_of(self, batch: MicroBatch, logprobs: KnownLogprobs, mask: Mask) -> tuple[LossOutput, Tensor]:
        """The loss of a micro-batch under the policy as it now is, and the policy's entropy at each token."""
        policy_logprobs, entropy = response_logprobs(self.policy, batch.tokens, self.config.rollout.temperature)
        loss_batch = LossBatch(policy_logprobs, logprobs.old, batch.advantages, mask, logprobs.reference)
        return self.loss(loss_batch), entropy

    @torch.no_grad()
    def trained_masks(self, minibatch: list[MicroBatch], known: list[KnownLogprobs]) -> list[Mask]:
        """Which tokens the step trains on: all, or with the authors' sequence filter those of the responses it keeps.

        The filter looks at the policy as it now is, and token weights must know its whole outcome beforehand: hence
        a forward pass of its own.
        """
        masks = [batch.tokens.mask for batch in minibatch]
        delta = self.config.loss.delta
        if not self.config.loss.sequence_filter or delta is None:
            return masks
        kept = []
        for batch, logprobs, mask in zip(minibatch, known, masks, strict=True):
            policy_logprobs, _ = response_logprobs(self.policy, batch.tokens, self.config.rollout.temperature)
            clamp = self.config.loss.log_ratio_clamp
            log_ratio = policy_logprobs - logprobs.old
            log_ratio = log_ratio if clamp is None else log_ratio.clamp(-clamp, clamp)
            kept.append(sequence_filter(log_ratio, batch.advantages, mask, delta))
        return kept
