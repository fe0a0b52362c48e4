"""Takes optimizer steps: the gradient of a minibatch's loss is accumulated over micro-batches and ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

import torch
from jaxtyping import Float
from torch import Tensor

from harness.algorithm.batching import MicroBatch
from harness.algorithm.correction import SamplerGap, correction_weights
from harness.algorithm.gradient_weights import gradient_weights
from harness.algorithm.loss_metrics import Forward, LossRecord, Mask
from harness.algorithm.nonfinite import NonFinite, check_gradient, check_weights
from harness.algorithm.placebo import placebo_weights
from harness.backends.backend import Backend
from harness.backends.phases import progress
from harness.backends.ranks import ALONE, Ranks
from harness.config.schema import Config
from harness.console import doing
from harness.model.policy import Logprobs, Policy
from losses import Loss, LossBatch, mask_totals, sequence_filter, token_weights

GivenWeights = Float[Tensor, "sequence token"]
ResponseKey = tuple[str, int]  # prompt, sample
NOT_YET = torch.empty(0, 0)


@dataclass
class KnownLogprobs:
    """Log-probabilities of a micro-batch under the weights before the step's first update."""

    old: Float[Tensor, "sequence token"]  # NOT_YET until the first update's own forward pass gives them
    reference: Float[Tensor, "sequence token"] | None


@torch.no_grad()
def known_logprobs(
    policy: Policy | Backend,
    reference: Policy | None,
    minibatches: list[list[MicroBatch]],
    temperature: float,
    skips_first: bool = False,
) -> list[list[KnownLogprobs]]:
    """Old and reference log-probabilities, in the updates' micro-batches, so that the first ratios are exactly 1.

    With `skips_first` the old ones of the first minibatch are left to its update, which computes the same.
    """
    done = count(1)
    batches = sum(map(len, minibatches))

    def known(batch: MicroBatch, is_skipped: bool) -> KnownLogprobs:
        progress()
        doing(f"log-probabilities: micro-batch {next(done)} of {batches}")
        old = NOT_YET if is_skipped else policy.logprobs(batch.tokens, temperature)[0]
        return KnownLogprobs(old, reference.logprobs(batch.tokens, temperature)[0] if reference else None)

    return [[known(batch, skips_first and n == 0) for batch in part] for n, part in enumerate(minibatches)]


@dataclass(frozen=True)
class TrainedOn:
    """What the table of rollouts records about a response that was trained on."""

    advantage: float  # group-relative, before a control spreads it over tokens
    old_logprobs: list[float]


Trained = Mapping[ResponseKey, TrainedOn]


@dataclass(frozen=True)
class StepUpdates:
    """This rank's share of a step's minibatches, each a list of micro-batches, and the record of their updates."""

    minibatches: list[list[MicroBatch]]
    known: list[list[KnownLogprobs]]
    record: LossRecord

    def pairs(self) -> list[tuple[MicroBatch, KnownLogprobs]]:
        return list(zip(chain(*self.minibatches), chain(*self.known), strict=True))

    def sampler_gap(self) -> SamplerGap:
        """This rank's difference between trainer and sampler log-probabilities over the trained tokens."""
        gap = SamplerGap()
        for batch, known in self.pairs():
            gap.advantages += float((batch.advantages * batch.tokens.mask).sum())
            gap.add(known.old - batch.sampler_logprobs, batch.tokens.mask)
        return gap

    def trained(self, ranks: Ranks = ALONE) -> Trained:
        """The responses of all ranks that were trained on. Collective."""
        own = [
            (response.key, TrainedOn(advantage, row[: len(response.tokens)].tolist()))
            for batch, known in self.pairs()
            for response, advantage, row in zip(
                batch.responses, batch.group_advantages, known.old[: len(batch.responses)], strict=True
            )  # an idle batch has a row of log-probabilities but no response
        ]
        return dict(chain(*ranks.gather(own, list[tuple[ResponseKey, TrainedOn]])))


@dataclass(frozen=True)
class Gradient:
    """Describes the gradient that is now in the parameters' .grad."""

    loss: float  # of the whole minibatch
    norm: Tensor
    forwards: list[Forward]


@dataclass(frozen=True)
class Updater:
    """Takes optimizer steps on minibatches, each of which is shared out over the ranks."""

    backend: Backend
    loss: Loss
    config: Config

    @property
    def policy(self) -> Policy:
        return self.backend.policy

    def step(self, minibatch: list[MicroBatch], known: list[KnownLogprobs], record: LossRecord) -> None:
        """One optimizer step. Raises NonFinite: before the step for a loss or gradient, after it for a weight."""
        self.apply(self.gradient(minibatch, known), minibatch, record)

    def apply(self, gradient: Gradient, minibatch: list[MicroBatch], record: LossRecord) -> None:
        """Step with the gradient in .grad and record it. Raises NonFinite as `step` does."""
        try:
            check_gradient(gradient.loss, gradient.norm, self.policy)
        except NonFinite:
            self.backend.discard()
            raise
        for batch, forward in zip(minibatch, gradient.forwards, strict=True):
            record.add(batch, forward)
        record.gradient_norms.append(float(gradient.norm))
        record.learning_rate = float(self.backend.schedule.get_last_lr()[0])
        if (moved := self.backend.step(gradient.norm)) is not None:
            record.step_norms.append(moved)
        check_weights(self.backend)

    def gradient(self, minibatch: list[MicroBatch], known: list[KnownLogprobs]) -> Gradient:
        """Compute the gradient of the minibatch's loss, which is left in .grad.

        Token weights come from the totals of the whole minibatch, so that splitting it cannot change the gradient.
        """
        self.backend.zero_grad()
        masks = self.trained_masks(minibatch, known)
        given = self.given_weights(minibatch, known, masks)
        totals = self.backend.ranks.sum(torch.stack([mask_totals(mask) for mask in masks]).sum(dim=0))
        loss, forwards = 0.0, list[Forward]()
        for batch, logprobs, mask, instead in zip(minibatch, known, masks, given, strict=True):
            progress()
            doing(f"micro-batch {len(forwards) + 1} of {len(minibatch)}")
            forward = self.forward(batch, logprobs, mask, instead)
            limit = self.config.rollout.max_response_tokens
            weights = token_weights(mask, self.config.loss.averaging, limit, totals)
            weights = weights * correction_weights(logprobs.old - batch.sampler_logprobs, mask, self.config.engine)
            scalar = (forward.output.token_loss * weights).sum()
            self.backend.backward(scalar, is_last=len(forwards) + 1 == len(minibatch))
            loss += float(scalar.detach())
            forwards.append(forward)
        loss = float(self.backend.ranks.sum(torch.tensor(loss, dtype=torch.float64)))
        return Gradient(loss, self.backend.gradient_norm(), forwards)

    def forward(
        self, batch: MicroBatch, logprobs: KnownLogprobs, mask: Mask, weights: GivenWeights | None = None
    ) -> Forward:
        """The micro-batch's loss under the current policy."""
        policy_logprobs, entropy = self.logprobs(batch, logprobs)
        known = (logprobs.old, batch.advantages, mask, logprobs.reference)
        seen = LossBatch(policy_logprobs, *known, weights)
        return Forward(self.loss(seen), entropy, gradient_weights(self.loss, seen))

    def logprobs(self, batch: MicroBatch, known: KnownLogprobs) -> Logprobs:
        """Log-probabilities and entropies under the current policy, and known.old if it is NOT_YET."""
        policy_logprobs, entropy = self.backend.logprobs(batch.tokens, self.config.rollout.temperature)
        if known.old is NOT_YET:
            known.old = policy_logprobs.detach().clone()  # files of tensors refuse shared memory
        return policy_logprobs, entropy

    @torch.no_grad()
    def trained_masks(self, minibatch: list[MicroBatch], known: list[KnownLogprobs]) -> list[Mask]:
        """The tokens to train on: all of them, or under the authors' sequence filter those of responses that it keeps.

        The filter needs a separate forward pass, since it depends on the current policy, and token weights depend on
        its result for the whole minibatch.
        """
        masks = [batch.tokens.mask for batch in minibatch]
        delta = self.config.loss.delta
        if not self.config.loss.sequence_filter or delta is None:
            return masks
        kept = []
        for batch, logprobs, mask in zip(minibatch, known, masks, strict=True):
            policy_logprobs, _ = self.logprobs(batch, logprobs)
            clamp = self.config.loss.log_ratio_clamp
            log_ratio = policy_logprobs - logprobs.old
            log_ratio = log_ratio if clamp is None else log_ratio.clamp(-clamp, clamp)
            kept.append(sequence_filter(log_ratio, batch.advantages, mask, delta))
        return kept

    @torch.no_grad()
    def given_weights(
        self, minibatch: list[MicroBatch], known: list[KnownLogprobs], masks: list[Mask]
    ) -> Sequence[GivenWeights | None]:
        """Token weights to use instead of the loss's own; None unless a placebo is set.

        A placebo needs a separate forward pass, since it depends on the weights of the whole minibatch.
        """
        settings = self.config.loss
        if not settings.has_placebo:
            return [None] * len(minibatch)
        own = []
        for batch, logprobs, mask in zip(minibatch, known, masks, strict=True):
            progress()
            forward = self.forward(batch, logprobs, mask)
            own.append((batch, forward.output.diagnostics.get("influence_weight", forward.weights), mask))
        return placebo_weights(settings.placebo, self.config.run.seed, own, self.backend.ranks)
