"""Fixes rotary embeddings whose frequencies depend on the longest text of a batch.

LongRoPE (Ding et al. 2024: Phi-3.5, Phi-4-mini) and dynamic NTK scaling switch frequencies at a certain length. The
sampler would then score a token differently from the trainer, which sees the complete text, and log-probabilities would
depend on the batch. A run therefore uses the frequencies for its longest text throughout, as vLLM does for LongRoPE.
"""

from typing import Any

import torch

FIXED = "fixed"  # transformers does not update frequencies of a type that it does not know


@torch.no_grad()
def fix_rope(network: Any, longest: int) -> None:
    """Fix the frequencies at those for texts of up to `longest` tokens."""
    weight = network.get_input_embeddings().weight
    last = torch.tensor([[longest - 1]], device=weight.device)
    for module in network.modules():
        kinds = kinds_of(module)
        if any(kind == "longrope" or "dynamic" in kind for kind in kinds.values()):
            for layer_type in kinds:
                module(weight[:1], last, **({"layer_type": layer_type} if layer_type else {}))
            fix(module)


def kinds_of(module: Any) -> dict[str | None, str]:
    """A module's types of rotary embedding by layer type; the only key is None if all layers share one."""
    kinds = getattr(module, "rope_type", None) or {}
    return kinds if isinstance(kinds, dict) else {None: kinds}


def fix(module: Any) -> None:
    module.rope_type = dict.fromkeys(module.rope_type, FIXED) if isinstance(module.rope_type, dict) else FIXED
