"""Optimizer steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from harness.algorithm.batching import MicroBatch
from harness.algorithm.correction import correction_weights
from harness.algorithm.loss_metrics import Forward, LossRecord, Mask
from harness.algorithm.nonfinite import NonFinite, check_gradient, check_weights
from harness.algorithm.placebo import placebo_weights
from harness.backends.phases import progress
from harness.backends.torch_backend import Backend
from harness.config.schema import Config
from harness.model.packing import TokenBatch
from harness.model.policy import Logprobs, Policy
from losses import Loss, LossBatch, mask_totals, sequence_filter, token_weights

InfluenceWeights = Float[Tensor, "sequence token"]


@dataclass(frozen=True)
class KnownLogprobs:
    """What was known of a micro-batch before the first update."""

    old: Float[Tensor, "sequence token"]
    reference: Float[Tensor, "sequence token"] | None


class Scorer(Protocol):
    """A policy, or a backend that has one."""

    def logprobs(self, tokens: TokenBatch, temperature: float, /) -> Logprobs:
        """Of the tokens of each response, and the entropies."""


@torch.no_grad()
def known_logprobs(
    policy: Scorer, reference: Policy | None, minibatches: list[list[MicroBatch]], temperature: float
) -> list[list[KnownLogprobs]]:
    """Old and reference log-probabilities, by the trainer's own code and plan: the first ratios are exactly 1."""

    def known(batch: MicroBatch) -> KnownLogprobs:
        progress()
        old, _ = policy.logprobs(batch.tokens, temperature)
        return KnownLogprobs(old, reference.logprobs(batch.tokens, temperature)[0] if reference else None)

    return [[known(batch) for batch in minibatch] for minibatch in minibatches]


@dataclass(frozen=True)
class Gradient:
    """What the parameters' .grad now hold, and how it came about."""

    loss: float  # the minibatch's
    norm: Tensor
    forwards: list[Forward]


@dataclass(frozen=True)
class Updater:
    """What an optimizer step needs besides its minibatch, of which each rank has a share."""

    backend: Backend
    loss: Loss
    config: Config

    @property
    def policy(self) -> Policy:
        """What is trained."""
        return self.backend.policy

    def step(self, minibatch: list[MicroBatch], known: list[KnownLogprobs], record: LossRecord) -> None:
        """One optimizer step. Raises NonFinite where loss or gradient are, before anything, or the stepped weights."""
        self.apply(self.gradient(minibatch, known), minibatch, record)

    def apply(self, gradient: Gradient, minibatch: list[MicroBatch], record: LossRecord) -> None:
        """Step with the gradient that the parameters hold, and count it in."""
        try:
            check_gradient(gradient.loss, gradient.norm, self.policy, gradient.forwards)
        except NonFinite:
            self.backend.discard()
            raise
        for batch, forward in zip(minibatch, gradient.forwards, strict=True):
            record.add(batch, forward)
        record.gradient_norms.append(float(gradient.norm))
        record.learning_rate = float(self.backend.schedule.get_last_lr()[0])
        record.step_norms.append(self.backend.step(gradient.norm))
        check_weights(self.backend, gradient.forwards)

    def gradient(self, minibatch: list[MicroBatch], known: list[KnownLogprobs]) -> Gradient:
        """The gradient of the minibatch's loss in the backend, accumulated over micro-batches and ranks.

        Token weights are taken from the step's totals, so that neither can change the gradient.
        """
        self.backend.zero_grad()
        masks = self.trained_masks(minibatch, known)
        given = self.given_weights(minibatch, known, masks)
        totals = self.backend.ranks.sum(torch.stack([mask_totals(mask) for mask in masks]).sum(dim=0))
        loss, forwards = 0.0, list[Forward]()
        for batch, logprobs, mask, instead in zip(minibatch, known, masks, given, strict=True):
            progress()
            forward = self.forward(batch, logprobs, mask, instead)
            limit = self.config.rollout.max_response_tokens
            weights = token_weights(mask, self.config.loss.averaging, limit, totals)
            if batch.sampler_logprobs is not None:
                weights = weights * correction_weights(logprobs.old - batch.sampler_logprobs, mask, self.config.engine)
            scalar = (forward.output.token_loss * weights).sum()
            self.backend.backward(scalar, is_last=len(forwards) + 1 == len(minibatch))
            loss += float(scalar.detach())
            forwards.append(forward)
        loss = float(self.backend.ranks.sum(torch.tensor(loss, dtype=torch.float64)))
        return Gradient(loss, self.backend.gradient_norm(), forwards)

    def forward(
        self, batch: MicroBatch, logprobs: KnownLogprobs, mask: Mask, weights: InfluenceWeights | None = None
    ) -> Forward:
        """The loss of a micro-batch under the policy as it now is, and what else its log-probabilities show."""
        policy_logprobs, entropy = self.backend.logprobs(batch.tokens, self.config.rollout.temperature)
        known = (logprobs.old, batch.advantages, mask, logprobs.reference)
        output = self.loss(LossBatch(policy_logprobs, *known, weights))
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
            policy_logprobs, _ = self.backend.logprobs(batch.tokens, self.config.rollout.temperature)
            clamp = self.config.loss.log_ratio_clamp
            log_ratio = policy_logprobs - logprobs.old
            log_ratio = log_ratio if clamp is None else log_ratio.clamp(-clamp, clamp)
            kept.append(sequence_filter(log_ratio, batch.advantages, mask, delta))
        return kept

    @torch.no_grad()
    def given_weights(
        self, minibatch: list[MicroBatch], known: list[KnownLogprobs], masks: list[Mask]
    ) -> Sequence[InfluenceWeights | None]:
        """The weights that FIPO is to use instead of its own: none, but under a placebo.

        A placebo must know all weights of the step beforehand: hence a forward pass of its own.
        """
        settings = self.config.loss
        if settings.loss_type != "fipo" or settings.fipo_placebo == "none":
            return [None] * len(minibatch)
        own = []
        for batch, logprobs, mask in zip(minibatch, known, masks, strict=True):
            progress()
            own.append((batch, self.forward(batch, logprobs, mask).output.diagnostics["influence_weight"], mask))
        return placebo_weights(settings.fipo_placebo, self.config.run.seed, own, self.backend.ranks)
