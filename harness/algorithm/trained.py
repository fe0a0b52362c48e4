"""Which responses a step trained on, with what its records say of them besides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.algorithm.batching import MicroBatch
from harness.algorithm.loss_metrics import ByResponse
from harness.algorithm.update import KnownLogprobs
from harness.backends.ranks import ALONE, Ranks


@dataclass(frozen=True)
class TrainedOn:
    """A response's part in the step."""

    advantage: float  # group-relative, before a control spreads it over tokens
    old_logprobs: list[float]


Trained = Mapping[tuple[str, int], TrainedOn]  # by prompt and sample


def trained_responses(
    minibatches: Sequence[Sequence[MicroBatch]],
    known: Sequence[Sequence[KnownLogprobs]],
    advantages: Mapping[tuple[str, int], float],
    ranks: Ranks = ALONE,
) -> Trained:
    """The responses that all ranks trained on; `advantages` by prompt and sample."""
    own = [
        (response.key, row[: len(response.tokens)].tolist())
        for minibatch, logprobs in zip(minibatches, known, strict=True)
        for batch, one in zip(minibatch, logprobs, strict=True)
        for response, row in zip(batch.responses, one.old[: len(batch.responses)], strict=True)
    ]
    everywhere = ranks.gather(own, ByResponse)
    return {key: TrainedOn(advantages[key], row) for rows in everywhere for key, row in rows}
