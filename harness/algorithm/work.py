"""A rank's share of the updates that a step makes."""

from dataclasses import dataclass

from harness.algorithm.batching import MicroBatch
from harness.algorithm.correction import SamplerGap
from harness.algorithm.loss_metrics import LossRecord
from harness.algorithm.update import KnownLogprobs


@dataclass(frozen=True)
class Work:
    """This rank's share of a step's updates."""

    minibatches: list[list[MicroBatch]]
    known: list[list[KnownLogprobs]]
    record: LossRecord

    def sampler_gap(self) -> SamplerGap:
        """What it shows of sampler and trainer."""
        gap = SamplerGap()
        for minibatch, logprobs in zip(self.minibatches, self.known, strict=True):
            for batch, one in zip(minibatch, logprobs, strict=True):
                gap.advantages += float((batch.advantages * batch.tokens.mask).sum())  # of what is trained on
                if batch.sampler_logprobs is not None:
                    gap.add(one.old - batch.sampler_logprobs, batch.tokens.mask)
        return gap
