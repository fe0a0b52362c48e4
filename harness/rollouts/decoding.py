"""Decoding with a key-value cache: texts grow by one token at a time, and the newest token attends to its whole text.

The cache holds rows x columns x layers x 2 x key heads x head size numbers. It grows by half when it is full, up to the
longest possible text. A prompt is read only once, however many texts begin with it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.model.attention import Heads, Kind, Layout, last_hidden_states
from harness.model.packing import Packed, Reading, Text

FIRST_COLUMNS = 64  # initial number of columns for new tokens
GROWTH = 1.5

LLAMA_FAMILY = "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"

Store = Float[Tensor, "row head column size"]
Angles = tuple[Float[Tensor, "position size"], Float[Tensor, "position size"]]  # cosines and sines


@dataclass
class Decoding:
    """A batch of texts, aligned on the right so that their newest tokens are in one column of the cache."""

    model: Any
    keys: list[Store]  # of each layer
    values: list[Store]
    bias: Float[Tensor, "row column"]  # -inf where a row's text has not begun
    lengths: Int[Tensor, " row"]
    column: int  # the column of the newest tokens
    limit: int  # maximum number of columns
    angles: Angles | None  # of every position; None if the model needs the general path through transformers

    def next_states(self, tokens: Int[Tensor, " row"]) -> Float[Tensor, "row hidden"]:
        """Append these tokens and return their last hidden states."""
        if self.column == self.bias.shape[1]:
            self.grow(min(self.limit, int(GROWTH * self.column) + 1))
        if self.angles is None:
            states = last_hidden_states(self.model, tokens[:, None], self.lengths[:, None], self)[:, -1]
        else:
            states = newest_states(self.model, tokens, self.lengths, self.angles, self)
        self.lengths = self.lengths + 1
        self.column += 1
        return states

    def attend(self, layer: int, states: tuple[Heads, Heads, Heads], kind: Kind) -> Tensor:
        """Attention of the newest tokens, [row, 1, head, size], with grouped query heads."""
        (query, key, value), end = states, self.column + 1
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.column], values[:, :, self.column] = key[:, :, 0], value[:, :, 0]
        rows, heads, _, size = query.shape
        grouped = query.reshape(rows, keys.shape[1], -1, size) * kind.scaling
        scores = grouped @ keys[:, :, :end].transpose(2, 3)
        scores += self.bias[:, None, None, :end]
        if kind.window is not None and kind.window < end:
            scores[..., : end - kind.window] = -torch.inf
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
        return (weights @ values[:, :, :end]).reshape(rows, 1, heads, values.shape[3])

    def keep(self, going: Bool[Tensor, " row"]) -> Int[Tensor, " kept"]:
        """Drop rows that have ended. Returns the old indices of the remaining rows, in their new order.

        The last rows take the places of those that have ended, so that few rows need to be copied.
        """
        left = int(going.sum())
        order = torch.arange(left, device=going.device)
        ended, last = (~going[:left]).nonzero().squeeze(1), going[left:].nonzero().squeeze(1) + left
        order[ended] = last
        self.bias, self.lengths = self.bias[order], self.lengths[order]
        for store in (self.keys, self.values):
            for layer, kept in enumerate(store):
                kept[ended, :, : self.column] = kept[last, :, : self.column]
                store[layer] = kept[:left]
        return order

    def grow(self, columns: int) -> None:
        """Enlarge the cache to `columns` columns."""
        self.bias = torch.nn.functional.pad(self.bias, (0, columns - self.bias.shape[1]))
        for store in (self.keys, self.values):
            for layer, kept in enumerate(store):
                rows, heads, _, size = kept.shape
                store[layer] = kept.new_empty(rows, heads, columns, size)
                store[layer][:, :, : self.column] = kept[:, :, : self.column]


def read_prompts(
    model: Any, prompts: list[list[int]], per_prompt: int, limit: int
) -> tuple[Decoding, Float[Tensor, "row hidden"]]:
    """Read the prompts and set up `per_prompt` texts for each, with room for `limit` new tokens.

    Returns the decoding state and the hidden state of each text's last token.
    """
    device = model.get_input_embeddings().weight.device
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    starts, width = lengths.cumsum(0) - lengths, int(lengths.max())
    texts = [
        Text(range(start, start + length), range(start + length, start + length))
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
    reading = Reading(Packed(texts, device))
    tokens = torch.tensor([token for prompt in prompts for token in prompt], device=device)
    positions = torch.cat([torch.arange(length) for length in lengths.tolist()]).to(device)
    states = last_hidden_states(model, tokens[None], positions[None], reading)[0]
    # the places of each prompt, aligned on the right; cells before its first token hold arbitrary places and are masked
    columns = starts[:, None] + torch.arange(width) - (width - lengths)[:, None]
    places = columns.clamp(min=0).repeat_interleave(per_prompt, dim=0).to(device)
    bias = (
        torch.zeros(columns.shape).masked_fill(columns < starts[:, None], -torch.inf).repeat_interleave(per_prompt, 0)
    )
    columns_first = width + min(limit, FIRST_COLUMNS)
    stores: tuple[list[Store], list[Store]] = ([], [])
    while reading.kept:
        for store, kept in zip(stores, reading.kept.pop(0), strict=True):
            store.append(kept.new_empty(len(places), kept.shape[1], columns_first, kept.shape[2]))
            store[-1][:, :, :width] = kept[places].transpose(1, 2)
    decoding = Decoding(
        model=model,
        keys=stores[0],
        values=stores[1],
        bias=torch.nn.functional.pad(bias, (0, columns_first - width)).to(device, states.dtype),
        lengths=lengths.repeat_interleave(per_prompt).to(device),
        column=width,
        limit=width + limit,
        angles=angles_of(model, width + limit),
    )
    return decoding, states[(starts + lengths - 1).to(device)].repeat_interleave(per_prompt, dim=0)


def angles_of(model: Any, positions: int) -> Angles | None:
    """Rotary cosines and sines of all positions; None outside LLAMA_FAMILY, or if they depend on the text length."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    if type(model).__name__ not in LLAMA_FAMILY or rope.get("rope_type") != "default":
        return None
    weight = model.get_input_embeddings().weight
    cosines, sines = model.base_model.rotary_emb(weight[:1], torch.arange(positions, device=weight.device)[None])
    return cosines[0], sines[0]


def newest_states(
    model: Any, tokens: Int[Tensor, " row"], positions: Int[Tensor, " row"], angles: Angles, layout: Layout
) -> Float[Tensor, "row hidden"]:
    """Last hidden states of one new token per row, for a model of the Llama family.

    Gives the same bits as transformers' layers with fewer function calls, which dominate the time of a decoding step on
    a CPU. Linear layers and norms are the model's own modules, including adapters; only the functions around them are
    bypassed, and cosines and sines are looked up.
    """
    body = model.base_model
    everywhere = model.config.sliding_window if type(model).__name__ == "MistralForCausalLM" else None
    cosines, sines = (table[positions, None] for table in angles)
    states = body.embed_tokens(tokens)
    for number, layer in enumerate(body.layers):
        attention, normed = layer.self_attn, layer.input_layernorm(states)
        size, window = attention.head_dim, getattr(attention, "sliding_window", everywhere)
        query, key, value = (
            project(normed).view(len(tokens), -1, size)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        both = rotated(torch.cat((query, key), dim=1), cosines, sines)[:, :, None]
        heads = both.split((query.shape[1], key.shape[1]), dim=1)
        seen = layout.attend(number, (heads[0], heads[1], value[:, :, None]), Kind(attention.scaling, window))
        states = states + attention.o_proj(seen.flatten(1))
        states = states + layer.mlp(layer.post_attention_layernorm(states))
    last: Tensor = body.norm(states)
    return last


def rotated(
    heads: Float[Tensor, "row head size"], cosines: Float[Tensor, "row 1 size"], sines: Float[Tensor, "row 1 size"]
) -> Float[Tensor, "row head size"]:
    """Queries or keys rotated by their positions' angles (RoPE, Su et al. 2021), pairing halves like transformers."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat((-second, first), dim=-1) * sines
