"""An attention function for transformers that takes a `layout` object instead of a padded mask.

transformers passes unknown keyword arguments of a model's forward down to its attention function, which can be replaced
(https://huggingface.co/docs/transformers/attention_interface). The model's code, hooks and adapters are unchanged.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from harness.model.linear import use_onednn

NAME = "fipo_harness"
NO_MASK = torch.empty(1, 1, 1, 1)  # transformers uses a mask with four dimensions unchanged
KNOWN = {"scaling", "sliding_window", "position_ids", "dropout"}  # dropout is 0, since models are in eval mode

Heads = Float[Tensor, "row head token size"]


@dataclass(frozen=True)
class Kind:
    """How a layer attends: the factor on its scores, and its sliding window."""

    scaling: float
    window: int | None = None  # number of latest tokens that a query sees, including its own; None: all


class Layout(Protocol):
    """Decides which tokens of a forward pass attend to which."""

    def attend(self, layer: int, states: tuple[Heads, Heads, Heads], kind: Kind) -> Tensor:
        """The attention output [row, token, head, size] for a layer's (queries, keys, values)."""


def attention(
    module: Any,
    query: Heads,
    key: Heads,
    value: Heads,
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """The attention function registered with transformers: uses the layout if there is one, else plain SDPA.

    Raises ValueError if a model does not pass the layout on, or asks for what no layout does, such as a soft cap.
    """
    if layout is None:
        if attention_mask is NO_MASK:
            raise ValueError("its layers pass no keyword arguments on to their attention")
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
        return found
    if more := [name for name, value in settings.items() if name not in KNOWN and not isinstance(value, bool | None)]:
        raise ValueError(f"its attention uses {more[0]}, which packed texts do not support")
    kind = Kind(settings["scaling"], settings.get("sliding_window"))
    return layout.attend(module.layer_idx, (query, key, value), kind), None


def last_hidden_states(
    model: Any, tokens: Int[Tensor, "row token"], positions: Int[Tensor, "row token"], layout: Layout
) -> Float[Tensor, "row token hidden"]:
    """The last hidden state of every token. `positions` count from the start of each text, not of the row."""
    if model.config._attn_implementation != NAME:
        model.set_attn_implementation(NAME)
        use_onednn(model)
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
