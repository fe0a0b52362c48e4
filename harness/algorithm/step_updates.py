"""All updates of a training step: this rank's micro-batches, their known log-probabilities, and the loss's metrics."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.algorithm.batching import MicroBatch
from harness.algorithm.correction import SamplerGap
from harness.algorithm.loss_metrics import LossRecord
from harness.algorithm.update import KnownLogprobs
from harness.backends.ranks import ALONE, Ranks

ResponseKey = tuple[str, int]  # prompt, sample


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
        return [
            pair
            for minibatch, known in zip(self.minibatches, self.known, strict=True)
            for pair in zip(minibatch, known, strict=True)
        ]

    def sampler_gap(self) -> SamplerGap:
        """This rank's difference between trainer and sampler log-probabilities over the trained tokens."""
        gap = SamplerGap()
        for batch, known in self.pairs():
            gap.advantages += float((batch.advantages * batch.tokens.mask).sum())
            if batch.sampler_logprobs is not None:
                gap.add(known.old - batch.sampler_logprobs, batch.tokens.mask)
        return gap

    def trained(self, ranks: Ranks = ALONE) -> Trained:
        """The responses of all ranks that were trained on. Collective."""
        own = [
            (response.key, advantage, row[: len(response.tokens)].tolist())
            for batch, known in self.pairs()
            for response, advantage, row in zip(
                batch.responses, batch.group_advantages, known.old[: len(batch.responses)], strict=True
            )
        ]
        everywhere = ranks.gather(own, list[tuple[ResponseKey, float, list[float]]])
        return {key: TrainedOn(advantage, row) for rows in everywhere for key, advantage, row in rows}
