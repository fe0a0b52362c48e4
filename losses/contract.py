"""What every loss takes and returns."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from losses.precision import computation_dtype


class LossSettingError(ValueError):
    """A loss was given a setting outside its range. `field` names the loss's field at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class LossBatch:
    """One micro-batch of responses. What masked positions hold is never read: padding may be NaN or -inf.

    `policy_logprobs` carry the gradient; `old_logprobs` are those of the policy that sampled the responses, recomputed
    by the trainer; `reference_logprobs` are needed only where beta is above 0. `mask` is True on response tokens; a
    NaN on one of them makes the loss NaN, though its own gradient may be 0: look at the loss. FIPO uses
    `influence_weights` in the place of its own where they are given; the other losses have none.
    """

    policy_logprobs: Float[Tensor, "sequence token"]
    old_logprobs: Float[Tensor, "sequence token"]
    advantages: Float[Tensor, "sequence token"]
    mask: Bool[Tensor, "sequence token"]
    reference_logprobs: Float[Tensor, "sequence token"] | None = None
    influence_weights: Float[Tensor, "sequence token"] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless all are of one shape, [sequence, token], and the mask is boolean."""
        shape = self.policy_logprobs.shape
        others = (self.old_logprobs, self.advantages, self.mask, self.reference_logprobs, self.influence_weights)
        shapes = [tuple(values.shape) for values in others if values is not None]
        if len(shape) != 2 or any(found != shape for found in shapes):
            raise ValueError(f"expected tensors of one shape [sequence, token], got {tuple(shape)} and {shapes}")
        if self.mask.dtype != torch.bool:
            raise ValueError(f"expected a boolean mask, got {self.mask.dtype}: pass mask.bool()")

    def widened(self) -> "LossBatch":
        """The same numbers in float32 at least, each cast once: ratios and sums are never taken in bfloat16.

        None but the policy's log-probabilities keep a gradient. Log-probabilities that were rounded differently, such
        as old ones in float32 of a policy in bfloat16, differ by that rounding: it is noise, and FIPO adds it up.
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


Diagnostics = dict[str, Shaped[Tensor, "sequence token"]]  # by name: numbers, or whether something happened


@dataclass(frozen=True)
class LossOutput:
    """Per-token losses and detached per-token diagnostics, both 0 (or False) where `mask` is False.

    The scalar to differentiate is `(token_loss * token_weights(mask, mode)).sum()`: averaging is not the loss's.
    """

    token_loss: Float[Tensor, "sequence token"]
    diagnostics: Diagnostics
    mask: Bool[Tensor, "sequence token"]

    @property
    def metrics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Each diagnostic's sum and count over the response tokens, so that micro-batches and ranks add up."""
        count = self.mask.sum()
        return {name: (values.sum(), count) for name, values in self.diagnostics.items()}


class Loss(Protocol):
    """A frozen dataclass whose fields are the hyperparameters and whose call is the formula."""

    def __call__(self, batch: LossBatch) -> LossOutput:
        """Token losses and diagnostics of one micro-batch."""
