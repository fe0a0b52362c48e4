"""Prompts and responses packed without padding: one row of tokens, a shared prompt once, responses after prompts.

Linear layers see real tokens only. Attention works on blocks of texts of similar length, padded to the longest of each
by at most PADDING.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.model.attention import Heads, Kind

PADDING = 0.1  # relative to a block's real tokens


@dataclass(frozen=True)
class Text:
    """A prompt and a response after it, as places in the packed row."""

    prompt: range
    response: range

    @property
    def places(self) -> Int[np.ndarray, " place"]:
        return np.concatenate([np.arange(part.start, part.stop) for part in (self.prompt, self.response)])

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True)
class Packed:
    """Texts in one row, with causal attention within each."""

    texts: Sequence[Text]
    device: torch.device

    @cached_property
    def blocks(self) -> list[list[int]]:
        """Indices of texts by falling length, split where padding would exceed PADDING."""
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
        """The place in the row of each cell of all blocks; past a text's end, its last place."""
        rows = [
            np.pad(self.texts[index].places, (0, width - len(self.texts[index])), mode="edge")
            for block, (_, width) in zip(self.blocks, self.shapes, strict=True)
            for index in block
        ]
        return torch.from_numpy(np.concatenate(rows)).to(self.device)

    @cached_property
    def seats(self) -> Int[Tensor, " place"]:
        """A cell of each place in the row."""
        seats = np.empty(1 + max(int(text.places.max()) for text in self.texts), dtype=np.int64)
        start = 0
        for block, (_, width) in zip(self.blocks, self.shapes, strict=True):
            for index in block:
                seats[self.texts[index].places] = np.arange(start, start + len(self.texts[index]))
                start += width
        return torch.from_numpy(seats).to(self.device)

    @property
    def padding(self) -> float:
        """Padding cells per real cell."""
        real = sum(map(len, self.texts))
        return sum(rows * width for rows, width in self.shapes) / real - 1

    def attend(self, layer: int, states: tuple[Heads, Heads, Heads], kind: Kind) -> Tensor:  # noqa: ARG002
        """Causal attention within each text: [1, place, head, size]."""
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


def gathered(rows: Float[Tensor, "row head size"], places: Int[Tensor, " place"]) -> Float[Tensor, "place head size"]:
    """The rows at the places, with repetitions. On flat rows, for the fast kernel."""
    flat = rows.reshape(len(rows), -1).index_select(0, places)
    return flat.view(len(places), *rows.shape[1:])


def causal(states: tuple[Heads, Heads, Heads], kind: Kind) -> Heads:
    """Attention of each token over itself and those before it, or the latest `window` of them."""
    (query, key, value), window = states, kind.window
    if query.is_cuda and query.dtype == torch.float32 and query.shape[1] != key.shape[1]:
        # CUDA's fused kernels do not support fewer keys than queries in float32
        key, value = (part.repeat_interleave(query.shape[1] // part.shape[1], dim=1) for part in (key, value))
    mask = None
    if window is not None and window < query.shape[2]:
        whole = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool, device=query.device)
        mask = whole.tril() & whole.triu(1 - window)
    return torch.nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        mask,
        is_causal=mask is None,
        scale=kind.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


@dataclass(frozen=True)
class TokenBatch:
    """Packed prompts and responses, and the place of response tokens in the [sequence, token] of the losses."""

    tokens: Int[Tensor, " place"]
    positions: Int[Tensor, " place"]  # of each token in its own text
    layout: Packed
    predictors: Int[Tensor, " response_token"]  # the place before each response token
    targets: Int[Tensor, " response_token"]  # the response tokens
    drawn: Bool[Tensor, "sequence token"]  # all response tokens
    mask: Bool[Tensor, "sequence token"]  # those that are trained on

    def spread(self, values: Float[Tensor, " response_token"]) -> Float[Tensor, "sequence token"]:
        """One value per response token in its cell, 0 elsewhere."""
        return torch.zeros(self.drawn.shape, dtype=values.dtype, device=values.device).masked_scatter(
            self.drawn, values
        )


def pack_batch(prompts: Sequence[list[int]], responses: Sequence[list[int]], device: torch.device) -> TokenBatch:
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
    # positions continue from a prompt to its response; a response's first token is predicted by the prompt's last
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
