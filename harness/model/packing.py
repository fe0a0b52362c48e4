"""Packs prompts and responses into one row of tokens without padding; a shared prompt is stored once.

Linear layers process real tokens only. Attention processes blocks of texts of similar length, each padded to the length
of its longest text; padding adds at most the share PADDING.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from harness.model.attention import Heads, Kind

PADDING = 0.1  # relative to a block's real tokens


@dataclass(frozen=True)
class Text:
    """A prompt and one response to it, as places (indices) in the packed row."""

    prompt: range
    response: range

    @property
    def places(self) -> Int[np.ndarray, " place"]:
        return np.concatenate([np.arange(part.start, part.stop) for part in (self.prompt, self.response)])

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True)
class Packed:
    """A layout of several texts in one row, with causal attention within each text."""

    texts: Sequence[Text]
    device: torch.device

    @cached_property
    def blocks(self) -> list[list[int]]:
        """Indices of the texts in order of decreasing length, with a new block where padding would exceed PADDING."""
        blocks: list[list[int]] = []
        real = 0
        for index in sorted(range(len(self.texts)), key=lambda index: -len(self.texts[index])):
            length = len(self.texts[index])
            widest = len(self.texts[blocks[-1][0]]) if blocks else 0
            if not blocks or widest * (len(blocks[-1]) + 1) > (1 + PADDING) * (real + length):
                blocks.append([])
                real = 0
            blocks[-1].append(index)
            real += length
        return blocks

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of each block."""
        return [(len(block), len(self.texts[block[0]])) for block in self.blocks]

    @cached_property
    def cells(self) -> Int[Tensor, " cell"]:
        """For each cell of all blocks, its place in the row; cells past the end of a text repeat its last place."""
        rows = [
            np.pad(self.texts[index].places, (0, width - len(self.texts[index])), mode="edge")
            for block, (_, width) in zip(self.blocks, self.shapes, strict=True)
            for index in block
        ]
        return torch.from_numpy(np.concatenate(rows)).to(self.device)

    @cached_property
    def seats(self) -> Int[Tensor, " place"]:
        """For each place in the row, a cell that holds it. A shared prompt is in several blocks' cells."""
        seats = np.empty(1 + max(int(text.places.max()) for text in self.texts), dtype=np.int64)
        start = 0
        for block, (_, width) in zip(self.blocks, self.shapes, strict=True):
            for index in block:
                seats[self.texts[index].places] = np.arange(start, start + len(self.texts[index]))
                start += width
        return torch.from_numpy(seats).to(self.device)

    def attend(self, layer: int, states: tuple[Heads, Heads, Heads], kind: Kind) -> Tensor:  # noqa: ARG002
        """The output [1, place, head, size] of causal attention within each text."""
        if len(self.texts) == 1:
            return causal(states, kind).transpose(1, 2)
        heads, size = states[0].shape[1], states[2].shape[3]  # values may differ in size from queries and keys
        spread = [gathered(part[0].transpose(0, 1), self.cells) for part in states]
        sizes = [rows * width for rows, width in self.shapes]
        parts = zip(*(part.split(sizes) for part in spread), strict=True)
        seen = []
        for (rows, width), block in zip(self.shapes, parts, strict=True):
            query, key, value = (part.view(rows, width, *part.shape[1:]).transpose(1, 2) for part in block)
            seen.append(causal((query, key, value), kind).transpose(1, 2).reshape(rows * width, heads, size))
        return gathered(torch.cat(seen), self.seats)[None]


@dataclass(frozen=True)
class Reading:
    """A layout for reading packed prompts that keeps their keys and values."""

    packed: Packed
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # per layer: keys, values

    def attend(self, layer: int, states: tuple[Heads, Heads, Heads], kind: Kind) -> Tensor:
        """As `Packed`. Raises ValueError unless each layer attends once, in order, as `kept` assumes."""
        if layer != len(self.kept):
            raise ValueError(
                f"expected each layer to attend once, in order, got layer {layer} as number {len(self.kept)}"
            )
        _, key, value = states
        self.kept.append((key[0].transpose(0, 1), value[0].transpose(0, 1)))
        return self.packed.attend(layer, states, kind)


def gathered(rows: Float[Tensor, "row head size"], places: Int[Tensor, " place"]) -> Float[Tensor, "place head size"]:
    """The rows at the given places, which may repeat."""
    flat = rows.reshape(len(rows), -1).index_select(0, places)
    return flat.view(len(places), *rows.shape[1:])  # index_select has a fast kernel for flat rows


def causal(states: tuple[Heads, Heads, Heads], kind: Kind) -> Heads:
    """Attention of each token over itself and all earlier tokens, or over the latest `window` of them.

    With a window, so many queries attend at a time to the keys of two windows, and no mask is larger than that.
    """
    (query, key, value), tokens = states, states[0].shape[2]
    window = tokens if kind.window is None else min(kind.window, tokens)
    if query.is_cuda and query.shape[1] != key.shape[1] and (query.dtype == torch.float32 or window < tokens):
        # of CUDA's fused kernels only those without a mask and not in float32 support fewer keys than queries
        key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in (key, value))
    seen = []
    for start in range(0, tokens, window):
        stop, first = min(start + window, tokens), max(0, start - window + 1)
        mask = None
        if window < tokens:
            places = torch.arange(first, stop, device=query.device)
            back = places[start - first :, None] - places
            mask = (back >= 0) & (back < window)
        parts = query[:, :, start:stop], key[:, :, first:stop], value[:, :, first:stop]
        gqa = query.shape[1] != key.shape[1]
        seen.append(
            scaled_dot_product_attention(*parts, mask, is_causal=mask is None, scale=kind.scaling, enable_gqa=gqa)
        )
    return torch.cat(seen, dim=2) if len(seen) > 1 else seen[0]


@dataclass(frozen=True)
class TokenBatch:
    """Packed prompts and responses, and where each response token belongs in the losses' [sequence, token] grid."""

    tokens: Int[Tensor, " place"]
    positions: Int[Tensor, " place"]  # counted from the start of each text
    layout: Packed
    predictors: Int[Tensor, " response_token"]  # the place whose hidden state predicts each response token
    targets: Int[Tensor, " response_token"]  # the response tokens
    drawn: Bool[Tensor, "sequence token"]  # True on response tokens
    mask: Bool[Tensor, "sequence token"]  # True on response tokens that are trained on

    def spread(self, values: Float[Tensor, " response_token"]) -> Float[Tensor, "sequence token"]:
        """The values, one per response token, in the losses' grid; 0 elsewhere."""
        return torch.zeros(self.drawn.shape, dtype=values.dtype, device=values.device).masked_scatter(
            self.drawn, values
        )


def pack_batch(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], device: torch.device
) -> TokenBatch:
    """Pack each prompt with its response; equal prompts are packed once."""
    distinct = {tuple(prompt): index for index, prompt in reversed(list(enumerate(prompts)))}
    first = sorted(distinct.values())
    ends = list(accumulate([len(prompts[index]) for index in first]))
    place = {
        tuple(prompts[index]): range(end - len(prompts[index]), end) for index, end in zip(first, ends, strict=True)
    }
    response_ends = list(accumulate(map(len, responses), initial=ends[-1]))
    texts = [
        Text(place[tuple(prompt)], range(start, end))
        for prompt, start, end in zip(prompts, response_ends, response_ends[1:], strict=False)
    ]
    tokens = [token for index in first for token in prompts[index]] + [token for one in responses for token in one]
    # Positions continue from a prompt to its response. The prompt's last token predicts the first response token.
    ranges = [np.arange(len(prompts[index])) for index in first]
    ranges += [np.arange(len(text.prompt), len(text)) for text in texts]
    predictors = [np.arange(text.response.start - 1, text.response.stop - 1) for text in texts]
    for text, places in zip(texts, predictors, strict=True):
        places[0] = text.prompt[-1]
    lengths = torch.tensor([len(response) for response in responses])
    drawn = (torch.arange(int(lengths.max())) < lengths[:, None]).to(device)
    row = torch.tensor(tokens, device=device)
    return TokenBatch(
        tokens=row,
        positions=torch.from_numpy(np.concatenate(ranges)).to(device),
        layout=Packed(texts, device),
        predictors=torch.from_numpy(np.concatenate(predictors)).to(device),
        targets=row[ends[-1] :],
        drawn=drawn,
        mask=drawn,
    )
