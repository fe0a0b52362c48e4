"""Attention whose caller says what attends to what, through `layout`, in place of a padded mask.

transformers passes unknown keywords of a model's forward down to its attention function, which can be replaced
(https://huggingface.co/docs/transformers/attention_interface). The model's own code, hooks and adapters stay.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "fipo_harness"
NO_MASK = torch.empty(1, 1, 1, 1)  # four dimensions: transformers takes it for a finished mask

Heads = Float[Tensor, "row head token size"]


@dataclass(frozen=True)
class Kind:
    """A layer's kind of attention."""

    scaling: float
    window: int | None = None  # how many latest tokens a query sees, itself included; None: all


class Layout(Protocol):
    """Which tokens of a forward pass attend to which."""

    def attend(self, layer: int, states: tuple[Heads, Heads, Heads], kind: Kind) -> Tensor:
        """Attention of a layer's (queries, keys, values): [row, token, head, size]."""


def attention(
    module: Any,
    query: Heads,
    key: Heads,
    value: Heads,
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: by the layout, or its own without one."""
    if layout is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
        return found
    kind = Kind(settings["scaling"], settings.get("sliding_window"))
    return layout.attend(module.layer_idx, (query, key, value), kind), None


def last_hidden_states(
    model: Any, tokens: Int[Tensor, "row token"], positions: Int[Tensor, "row token"], layout: Layout
) -> Float[Tensor, "row token hidden"]:
    """The model's last hidden states, each token at its position in its own text."""
    if model.config._attn_implementation != NAME:
        model.set_attn_implementation(NAME)
    states: Tensor = model.base_model(
        input_ids=tokens,
        position_ids=positions,
        attention_mask=NO_MASK,
        use_cache=False,
        layout=layout,
    ).last_hidden_state
    return states


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
