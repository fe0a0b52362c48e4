"""Gradient checkpointing: a layer's activations are computed again in the backward pass instead of kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from harness.errors import UsageError


def enable_checkpointing(model: Any) -> None:
    """Turn on gradient checkpointing, which keeps no activations inside the model's layers.

    transformers recomputes only layers in training mode, in which dropout would be active. So `checkpointing` puts the
    layers into training mode, and each leaves it when its forward pass begins, also when it is recomputed.
    """
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    for layer in checkpointed_layers(model):
        layer.register_forward_pre_hook(leave_training_mode)


def check_checkpointing(model: Any) -> None:
    """Raise UsageError for a model whose layers cannot be recomputed."""
    layers = any(isinstance(module, GradientCheckpointingLayer) for module in model.modules())
    if not (layers and model.supports_gradient_checkpointing):
        raise UsageError(
            f"--gradient_checkpointing true: expected a model whose layers can be recomputed, got "
            f"{type(model).__name__}, whose layers cannot: omit it"
        )


def leave_training_mode(layer: Any, _arguments: tuple[Any, ...]) -> None:
    layer.training = False


def checkpointed_layers(model: Any) -> list[Any]:
    found = (module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))
    return [layer for layer in found if layer.gradient_checkpointing]


@contextmanager
def checkpointing(model: Any) -> Iterator[None]:
    """A context in which layers prepared by `enable_checkpointing` are recomputed, if gradients are enabled."""
    layers = checkpointed_layers(model) if torch.is_grad_enabled() else []
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
