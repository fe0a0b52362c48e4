"""The newest tokens' way through a model of the Llama family: its modules' arithmetic in fewer calls, to the same bits.

A token's step on a CPU is mostly the price of its calls. Here every linear layer and norm is the model's own module,
adapters included; what is left out are the layers of functions around them, and cosines and sines are looked up.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.model.attention import Kind, Layout

FAMILY = "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"

Angles = tuple[Float[Tensor, "position size"], Float[Tensor, "position size"]]  # cosines and sines


def angles_of(model: Any, positions: int) -> Angles | None:
    """Those of all positions; None for a model that is not of the family, or whose angles depend on the length."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    if type(model).__name__ not in FAMILY or rope.get("rope_type") != "default":
        return None
    weight = model.get_input_embeddings().weight
    cosines, sines = model.base_model.rotary_emb(weight[:1], torch.arange(positions, device=weight.device)[None])
    return cosines[0], sines[0]


def newest_states(
    model: Any, tokens: Int[Tensor, " row"], positions: Int[Tensor, " row"], angles: Angles, layout: Layout
) -> Float[Tensor, "row hidden"]:
    """The last hidden states of one new token for each row."""
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
    """Queries or keys turned by their positions' angles (RoPE, Su et al. 2021), halves as transformers pairs them."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosines + torch.cat((-second, first), dim=-1) * sines
