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

import torch
from jaxtyping import Float
from torch import Tensor

from harness.algorithm.batching import MicroBatch
from harness.backends.ranks import Ranks
from harness.config.loss import Placebo
from harness.randomness import stream

Key = tuple[int, str, int]  # step, prompt, sample
Weights = Float[Tensor, "sequence token"]
SentRow = tuple[Key, list[float], list[float]]  # a Row as it is sent between ranks


@dataclass(frozen=True)
class Row:
    """The trained tokens of one response."""

    key: Key
    weights: Float[Tensor, " token"]
    advantages: Float[Tensor, " token"]


def placebo_weights(
    kind: Placebo, seed: int, own: Sequence[tuple[MicroBatch, Weights, Tensor]], ranks: Ranks
) -> list[Weights]:
    """Replacement weights for each of this rank's micro-batches in a minibatch.

    own: each micro-batch with the loss's weights and the mask of trained tokens. Raises ValueError for an unknown
    kind.
    """
    everywhere = sorted(rows_everywhere(own, ranks), key=lambda row: row.key)
    replaced = dict(zip([row.key for row in everywhere], replacement(kind, seed, everywhere), strict=True))
    return [filled(batch, weights, mask, replaced) for batch, weights, mask in own]


def rows_everywhere(own: Sequence[tuple[MicroBatch, Weights, Tensor]], ranks: Ranks) -> list[Row]:
    """The rows of all ranks, in this rank's dtypes. Every rank has at least an idle micro-batch."""
    batch, weights, _ = own[0]
    sent = [(row.key, row.weights.tolist(), row.advantages.tolist()) for part in own for row in rows_of(*part)]
    return [
        Row(key, torch.tensor(values, dtype=weights.dtype), torch.tensor(advantages, dtype=batch.advantages.dtype))
        for of_rank in ranks.gather(sent, list[SentRow])
        for key, values, advantages in of_rank
    ]


def replacement(kind: Placebo, seed: int, rows: Sequence[Row]) -> list[Tensor]:
    """New weights for all rows of the optimizer step, given in the order of their keys."""
    if not rows:  # the sequence filter may drop them all
        return []
    if kind == "sign_mean":
        return group_means(rows, [row.advantages.sign() for row in rows])
    if kind == "position":
        return group_means(rows, [torch.arange(len(row.weights), 0, -1) for row in rows])
    if kind == "response_mean":
        return [torch.full_like(row.weights, float(row.weights.double().mean())) for row in rows]
    if kind == "shuffle_within":
        return [row.weights[permutation(len(row.weights), seed, kind, row.key)] for row in rows]
    if kind == "shuffle_batch":
        weights = torch.cat([row.weights for row in rows])
        return list(
            weights[permutation(len(weights), seed, kind, rows[0].key)].split([len(row.weights) for row in rows])
        )
    if kind == "other_response":
        return others(rows, seed)
    raise ValueError(f"expected a placebo, got {kind!r}")


def group_means(rows: Sequence[Row], groups: Sequence[Tensor]) -> list[Tensor]:
    """Each weight replaced by the mean (in float64) over the tokens of its group; `groups` numbers the tokens."""
    weights = torch.cat([row.weights for row in rows])
    _, places, counts = torch.cat(list(groups)).unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, places, weights.double())
    return list((sums / counts)[places].to(weights.dtype).split([len(row.weights) for row in rows]))


def others(rows: Sequence[Row], seed: int) -> list[Tensor]:
    """For each response the weights of another one, each token that at the same share of the way to the end."""
    ring = permutation(len(rows), seed, "other_response", rows[0].key).tolist()
    given = [Tensor()] * len(rows)
    for place, giver in zip(ring, ring[1:] + ring[:1], strict=True):
        own, weights = len(rows[place].weights), rows[giver].weights
        given[place] = weights[torch.arange(own) * len(weights) // own]
    return given


def permutation(count: int, seed: int, kind: Placebo, key: Key) -> Tensor:
    """A permutation of `count` tokens that depends only on the arguments."""
    return torch.from_numpy(stream(seed, kind, *key).permutation(count))


def rows_of(batch: MicroBatch, weights: Weights, mask: Tensor) -> list[Row]:
    """A row for each response in the micro-batch that has a trained token."""
    return [
        Row((response.step, *response.key), weights[index][kept].cpu(), batch.advantages[index][kept].cpu())
        for index, response in enumerate(batch.responses)
        if (kept := mask[index]).any()
    ]


def filled(batch: MicroBatch, weights: Weights, mask: Tensor, replaced: dict[Key, Tensor]) -> Weights:
    result = weights.clone()
    for index, response in enumerate(batch.responses):
        if mask[index].any():
            result[index, mask[index]] = replaced[response.step, *response.key].to(result.device)
    return result
