"""Optimizer steps."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harness.batching import MicroBatch
from harness.config import Config, OptimizerSettings
from harness.loss_record import Forward, LossRecord, Mask
from harness.nonfinite import check_gradient, check_weights
from harness.policy import Policy, response_logprobs
from losses import Loss, LossBatch, mask_totals, sequence_filter, token_weights


@dataclass(frozen=True)
class KnownLogprobs:
    """What was known of a micro-batch before the first update."""

    old: Float[Tensor, "sequence token"]
    reference: Float[Tensor, "sequence token"] | None


def make_optimizer(
    policy: Policy, settings: OptimizerSettings, updates_per_step: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
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
class Gradient:
    """What the parameters' .grad now hold, and how it came about."""

    loss: float  # the minibatch's
    norm: Tensor
    forwards: list[Forward]


@dataclass(frozen=True)
class Updater:
    """What an optimizer step needs besides its minibatch."""

    policy: Policy
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    config: Config

    def step(self, minibatch: list[MicroBatch], known: list[KnownLogprobs], record: LossRecord) -> None:
        """One optimizer step. Raises NonFinite where loss or gradient are, before anything, or the stepped weights."""
        self.apply(self.gradient(minibatch, known), minibatch, record)

    def apply(self, gradient: Gradient, minibatch: list[MicroBatch], record: LossRecord) -> None:
        """Step with the gradient that the parameters hold, and count it in."""
        check_gradient(gradient.loss, gradient.norm, self.policy, gradient.forwards)
        for batch, forward in zip(minibatch, gradient.forwards, strict=True):
            record.add(batch, forward)
        parameters = self.policy.model.parameters()
        torch.nn.utils.clip_grads_with_norm_(parameters, self.config.optimizer.grad_clip, gradient.norm)
        record.gradient_norms.append(float(gradient.norm))
        record.learning_rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.schedule.step()
        check_weights(self.policy, gradient.forwards)

    def gradient(self, minibatch: list[MicroBatch], known: list[KnownLogprobs]) -> Gradient:
        """The gradient of the minibatch's loss in the parameters' .grad, accumulated over the micro-batches.

        Token weights are taken from the step's totals, so that the micro-batches cannot change the gradient.
        """
        self.optimizer.zero_grad()
        masks = self.trained_masks(minibatch, known)
        totals = torch.stack([mask_totals(mask) for mask in masks]).sum(dim=0)
        loss, forwards = 0.0, []
        for batch, logprobs, mask in zip(minibatch, known, masks, strict=True):
            forward = self.forward(batch, logprobs, mask)
            limit = self.config.rollout.max_response_tokens
            weights = token_weights(mask, self.config.loss.averaging, limit, totals)
            scalar = (forward.output.token_loss * weights).sum()
            scalar.backward()
            loss += float(scalar.detach())
            forwards.append(forward)
        gradients = [p.grad for p in self.policy.model.parameters() if p.grad is not None]
        return Gradient(loss, torch.nn.utils.get_total_norm(gradients), forwards)

    def forward(self, batch: MicroBatch, logprobs: KnownLogprobs, mask: Mask) -> Forward:
        """The loss of a micro-batch under the policy as it now is, and what else its log-probabilities show."""
        policy_logprobs, entropy = response_logprobs(self.policy, batch.tokens, self.config.rollout.temperature)
        output = self.loss(LossBatch(policy_logprobs, logprobs.old, batch.advantages, mask, logprobs.reference))
        return Forward(output, policy_logprobs.detach(), logprobs.old, entropy)

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
