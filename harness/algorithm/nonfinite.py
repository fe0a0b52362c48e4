"""Detects losses, gradients and weights that are not finite, before a step if possible."""

import math
from collections.abc import Iterable

import torch

from harness.backends.backend import Backend
from harness.errors import Diverged
from harness.model.policy import Policy


class NonFinite(Diverged):
    """A loss, gradient or weight is infinite or NaN. `is_stepped`: the optimizer has already changed the weights."""

    def __init__(self, quantity: str, value: float, is_stepped: bool = False) -> None:
        super().__init__(f"expected finite numbers, got {value} in the {quantity}")
        self.is_stepped = is_stepped


def check_gradient(loss: float, norm: torch.Tensor, policy: Policy) -> None:
    """Raise NonFinite if the loss or the gradient is not finite, naming the first such parameter if possible."""
    if not math.isfinite(loss):
        raise NonFinite("loss", loss)
    if not norm.isfinite():
        gradients = ((name, p.grad) for name, p in policy.model.named_parameters() if p.grad is not None)
        name, value = first_non_finite(gradients) or (None, float(norm))
        raise NonFinite(f"gradient of {name}" if name else "norm of the gradient", value)


def check_weights(backend: Backend) -> None:
    """Raise NonFinite on every rank if a weight on any rank is not finite."""
    total = torch.stack([weights.sum(dtype=torch.float32) for weights in backend.own_weights()]).sum()
    found = [total for total in backend.ranks.gather(float(total), float) if not math.isfinite(total)]
    if found:
        weights = ((name, p.detach()) for name, p in backend.policy.model.named_parameters())
        name, value = first_non_finite(weights) or (None, found[0])
        raise NonFinite(f"weight {name}" if name else "weights", value, is_stepped=True)


def first_non_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> tuple[str, float] | None:
    """The name of the first tensor that contains an infinity or NaN, and the first of these, or None."""
    return next(((name, float(one[~one.isfinite()][0])) for name, one in tensors if not one.isfinite().all()), None)
