"""Detects losses, gradients and weights that are not finite, before a step if possible, and saves their batch."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from harness.algorithm.batching import MicroBatch
from harness.algorithm.loss_metrics import Forward
from harness.backends.backend import Backend
from harness.errors import Diverged
from harness.files import sync, write_json
from harness.model.policy import Policy


class NonFinite(Diverged):
    """A loss, gradient or weight is infinite or NaN. `is_stepped`: the optimizer has already changed the weights."""

    def __init__(self, quantity: str, value: float, forwards: Sequence[Forward], is_stepped: bool = False) -> None:
        super().__init__(f"expected finite numbers, got {value} in the {quantity}")
        self.quantity, self.value, self.forwards, self.is_stepped = quantity, value, forwards, is_stepped


def check_gradient(loss: float, norm: torch.Tensor, policy: Policy, forwards: Sequence[Forward]) -> None:
    """Raise NonFinite if the loss or the gradient is not finite, naming the first such parameter if possible."""
    if not math.isfinite(loss):
        raise NonFinite("loss", loss, forwards)
    if not norm.isfinite():
        gradients = ((name, p.grad) for name, p in policy.model.named_parameters() if p.grad is not None)
        name, value = first_non_finite(gradients) or (None, float(norm))
        raise NonFinite(f"gradient of {name}" if name else "norm of the gradient", value, forwards)


def check_weights(backend: Backend, forwards: Sequence[Forward] = ()) -> None:
    """Raise NonFinite on every rank if a weight on any rank is not finite."""
    total = torch.stack([weights.sum(dtype=torch.float32) for weights in backend.own_weights()]).sum()
    found = [total for total in backend.ranks.gather(float(total), float) if not math.isfinite(total)]
    if found:
        weights = ((name, p.detach()) for name, p in backend.policy.model.named_parameters())
        name, value = first_non_finite(weights) or (None, found[0])
        raise NonFinite(f"weight {name}" if name else "weights", value, forwards, is_stepped=True)


def first_non_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> tuple[str, float] | None:
    """The name of the first tensor that contains an infinity or NaN, and the first of these, or None."""
    return next(((name, float(one[~one.isfinite()][0])) for name, one in tensors if not one.isfinite().all()), None)


def save_batch(folder: Path, fault: NonFinite, minibatch: Sequence[MicroBatch]) -> None:
    """Save the update's responses and tensors, one file per micro-batch."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (batch, forward) in enumerate(zip(minibatch, fault.forwards, strict=True)):
        tensors = {
            "tokens": batch.tokens.tokens,
            "positions": batch.tokens.positions,
            "predictors": batch.tokens.predictors,
            "mask": forward.output.mask,
            "advantages": batch.advantages,
            "old_logprobs": forward.old_logprobs,
            "policy_logprobs": forward.policy_logprobs,
            "token_loss": forward.output.token_loss,
        }
        path = folder / f"micro_batch_{number:04d}.safetensors"
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
        sync(path)
    responses = [
        {"prompt_id": response.problem.prompt_id, "sample": response.sample, "micro_batch": number}
        for number, batch in enumerate(minibatch)
        for response in batch.responses
    ]
    write_json(folder / "batch.json", {"quantity": fault.quantity, "value": str(fault.value), "responses": responses})
