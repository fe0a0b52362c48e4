"""Rotary embeddings whose frequencies depend on the longest text of a batch, fixed for a run.

LongRoPE (Ding et al. 2024: Phi-3.5, Phi-4-mini) and dynamic NTK scaling take other frequencies once a text passes a
length. A sampler then scores a token otherwise than the trainer, which sees the whole text, and a text gets other
log-probabilities beside a longer one. So a run uses the frequencies of its longest text throughout, as vLLM does for
LongRoPE.
"""

from typing import Any

import torch

FIXED = "fixed"  # no type that transformers updates


@torch.no_grad()
def fix_rope(network: Any, longest: int) -> None:
    """Choose the frequencies for texts of up to `longest` tokens, and let no batch change them."""
    weight = network.get_input_embeddings().weight
    last = torch.tensor([[longest - 1]], device=weight.device)
    for module in network.modules():
        kinds = kinds_of(module)
        if any(kind == "longrope" or "dynamic" in kind for kind in kinds.values()):
            for layer_type in kinds:
                module(weight[:1], last, **({"layer_type": layer_type} if layer_type else {}))
            fix(module)


@torch.no_grad()
def copy_rope(source: Any, target: Any) -> None:
    """Give a network of the same shape the frequencies that another was fixed to."""
    fixed = {name: module for name, module in source.named_modules() if FIXED in kinds_of(module).values()}
    for name, ours in fixed.items():
        theirs = target.get_submodule(name)
        for key, frequencies in ours.named_buffers():
            getattr(theirs, key).copy_(frequencies)
        for key in (key for key in vars(ours) if key.endswith("attention_scaling")):
            setattr(theirs, key, getattr(ours, key))
        fix(theirs)


def kinds_of(module: Any) -> dict[str | None, str]:
    """The kinds of a module's rotary embeddings by the type of layer that they are for, None where all have one."""
    kinds = getattr(module, "rope_type", None) or {}
    return kinds if isinstance(kinds, dict) else {None: kinds}


def fix(module: Any) -> None:
    """End the updates of a module's frequencies."""
    module.rope_type = dict.fromkeys(module.rope_type, FIXED) if isinstance(module.rope_type, dict) else FIXED
