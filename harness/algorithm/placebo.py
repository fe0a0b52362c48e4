"""Placebos: a loss's token weights without their placement on tokens. A gain that remains is not token credit.

sign_mean       replaces each weight by the minibatch's mean weight over advantages of the same sign
response_mean   replaces each weight by the mean weight of its response
position        replaces each weight by the minibatch's mean weight at the same distance from a response's end
shuffle_within  permutes the weights among the tokens of each response
shuffle_batch   permutes the weights among all tokens of the minibatch
other_response  gives each response the weights of another one, stretched to its length

The weights are FIPO's influence weights, and of another loss what multiplies A grad log pi (gradient_weights). Each but
the last preserves their sum. None depends on ranks or micro-batches. Permutations are keyed by seed, step and
responses; all epochs of a step use the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from harness.algorithm.batching import MicroBatch
from harness.backends.ranks import Ranks
from harness.config.loss import Placebo
from harness.randomness import stream

Key = tuple[int, str, int]  # step, prompt, sample
Weights = Float[Tensor, "sequence token"]


@dataclass(frozen=True)
class Row:
    """The trained tokens of one response, as numbers that can be sent between ranks."""

    key: Key
    weights: list[float]
    advantages: list[float]


def placebo_weights(
    kind: Placebo, seed: int, own: Sequence[tuple[MicroBatch, Weights, Tensor]], ranks: Ranks
) -> list[Weights]:
    """Replacement weights for each of this rank's micro-batches in a minibatch.

    own: each micro-batch with the loss's weights and the mask of trained tokens. Raises ValueError for an unknown
    kind.
    """
    sent = [row for part in own for row in rows_of(*part)]
    everywhere = sorted(chain(*ranks.gather(sent, list[Row])), key=lambda row: row.key)
    replaced = dict(zip([row.key for row in everywhere], replacement(kind, seed, everywhere), strict=True))
    return [filled(batch, weights, mask, replaced) for batch, weights, mask in own]


def replacement(kind: Placebo, seed: int, rows: Sequence[Row]) -> list[Tensor]:
    """New weights for all rows of the optimizer step, given in the order of their keys."""
    if not rows:  # the sequence filter may drop them all
        return []
    weights = [torch.tensor(row.weights) for row in rows]
    lengths = [len(row.weights) for row in rows]
    if kind == "sign_mean":
        return group_means(weights, [torch.tensor(row.advantages).sign() for row in rows])
    if kind == "position":
        return group_means(weights, [torch.arange(length, 0, -1) for length in lengths])
    if kind == "response_mean":
        return [torch.full_like(own, float(own.double().mean())) for own in weights]
    if kind == "shuffle_within":
        return [own[permutation(len(own), seed, kind, row.key)] for own, row in zip(weights, rows, strict=True)]
    if kind == "shuffle_batch":
        return list(torch.cat(weights)[permutation(sum(lengths), seed, kind, rows[0].key)].split(lengths))
    if kind == "other_response":
        ring = permutation(len(rows), seed, kind, rows[0].key).tolist()
        giver = dict(zip(ring, ring[1:] + ring[:1], strict=True))
        return [stretched(weights[giver[place]], length) for place, length in enumerate(lengths)]
    raise ValueError(f"expected a placebo, got {kind!r}")


def group_means(weights: Sequence[Tensor], groups: Sequence[Tensor]) -> list[Tensor]:
    """Each weight replaced by the mean (in float64) over the tokens of its group; `groups` numbers the tokens."""
    whole = torch.cat(list(weights))
    _, places, counts = torch.cat(list(groups)).unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, places, whole.double())
    return list((sums / counts)[places].to(whole.dtype).split([len(own) for own in weights]))


def stretched(weights: Tensor, length: int) -> Tensor:
    """The weights at the same shares of the way to the end, for a response of this length."""
    return weights[torch.arange(length) * len(weights) // length]


def permutation(count: int, seed: int, kind: Placebo, key: Key) -> Tensor:
    """A permutation of `count` tokens that depends only on the arguments."""
    return torch.from_numpy(stream(seed, kind, *key).permutation(count))


def rows_of(batch: MicroBatch, weights: Weights, mask: Tensor) -> list[Row]:
    """A row for each response in the micro-batch that has a trained token."""
    return [
        Row((response.step, *response.key), weights[index][kept].tolist(), batch.advantages[index][kept].tolist())
        for index, response in enumerate(batch.responses)
        if (kept := mask[index]).any()
    ]


def filled(batch: MicroBatch, weights: Weights, mask: Tensor, replaced: dict[Key, Tensor]) -> Weights:
    result = weights.clone()
    for index, response in enumerate(batch.responses):
        if mask[index].any():
            result[index, mask[index]] = replaced[response.step, *response.key].to(result)
    return result
