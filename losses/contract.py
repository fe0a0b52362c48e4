"""The interface of a loss: its inputs, its outputs and the error for an invalid setting."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from losses.parts.precision import computation_dtype


class LossSettingError(ValueError):
    """A hyperparameter of a loss is outside its range. `field` is the name of the dataclass field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class LossBatch:
    """One micro-batch of responses. Values at masked positions are never read: padding may be NaN or -inf.

    Only `policy_logprobs` carry a gradient. `old_logprobs` are those of the policy that sampled the responses,
    recomputed by the trainer. `reference_logprobs` are needed only if beta > 0. `mask` is True on response tokens. A
    NaN on one of them makes the loss NaN even if the gradient does not show it, so check the loss. If given,
    `influence_weights` replace the loss's own: FIPO's f_t, and of other losses w_t in L_t = -A w_t log pi + beta k3_t.
    """

    policy_logprobs: Float[Tensor, "sequence token"]
    old_logprobs: Float[Tensor, "sequence token"]
    advantages: Float[Tensor, "sequence token"]
    mask: Bool[Tensor, "sequence token"]
    reference_logprobs: Float[Tensor, "sequence token"] | None = None
    influence_weights: Float[Tensor, "sequence token"] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless all tensors have the same shape, [sequence, token], and the mask is boolean."""
        shape = self.policy_logprobs.shape
        others = (self.old_logprobs, self.advantages, self.mask, self.reference_logprobs, self.influence_weights)
        shapes = [tuple(values.shape) for values in others if values is not None]
        if len(shape) != 2 or any(found != shape for found in shapes):
            raise ValueError(f"expected tensors of one shape [sequence, token], got {tuple(shape)} and {shapes}")
        if self.mask.dtype != torch.bool:
            raise ValueError(f"expected a boolean mask, got {self.mask.dtype}: pass mask.bool()")

    def widened(self) -> "LossBatch":
        """The batch cast to at least float32, so that ratios and sums are never computed in bfloat16.

        All tensors but `policy_logprobs` are detached. Casting cannot undo rounding: if old log-probabilities are in
        float32 and the policy's in bfloat16, they differ by rounding noise, which FIPO accumulates over a response.
        """
        reference, weights = self.reference_logprobs, self.influence_weights
        dtype = computation_dtype(self.policy_logprobs, self.old_logprobs)
        return LossBatch(
            self.policy_logprobs.to(dtype),
            self.old_logprobs.detach().to(dtype),
            self.advantages.detach().to(dtype),
            self.mask,
            None if reference is None else reference.detach().to(dtype),
            None if weights is None else weights.detach().to(dtype),
        )


Diagnostics = dict[str, Shaped[Tensor, "sequence token"]]  # by name; float or boolean


@dataclass(frozen=True)
class LossOutput:
    """Per-token losses and detached per-token diagnostics, both 0 (or False) where `mask` is False.

    Averaging is not part of a loss: the scalar to differentiate is `(token_loss * token_weights(mask, mode)).sum()`.
    """

    token_loss: Float[Tensor, "sequence token"]
    diagnostics: Diagnostics
    mask: Bool[Tensor, "sequence token"]

    @property
    def metrics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Each diagnostic's (sum, count) over the response tokens, which can be added over micro-batches and ranks."""
        count = self.mask.sum()
        return {name: (values.sum(), count) for name, values in self.diagnostics.items()}


class Loss(Protocol):
    """A frozen dataclass with the hyperparameters as fields and the formula per token as `__call__`."""

    def __call__(self, batch: LossBatch) -> LossOutput:
        """Token losses and diagnostics of one micro-batch."""
