"""The interface of a training backend, and what all backends have in common: trained parameters and the schedule."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.backends.ranks import Ranks
from harness.config.schema import OptimizerSettings
from harness.model.packing import TokenBatch
from harness.model.policy import Logprobs, Policy

Tensors = dict[str, Tensor]
MOMENTS = "step", "exp_avg", "exp_avg_sq"  # AdamW's state of each parameter


class Backend(Protocol):
    """Weights, gradients and optimizer of a policy, in one process or spread over several.

    `weights`, `state` and `load_state` are collective: every rank must call them. They exchange whole tensors however
    the ranks partition them, so a checkpoint does not depend on the backend or the number of ranks.
    """

    @property
    def policy(self) -> Policy:
        """The policy being trained."""

    @property
    def ranks(self) -> Ranks:
        """The ranks that train it together."""

    @property
    def schedule(self) -> torch.optim.lr_scheduler.LambdaLR:
        """The learning-rate schedule."""

    @property
    def must_copy_weights(self) -> bool:
        """Whether the tensors from `weights` are reused, so that they must be copied before they are kept."""

    def logprobs(self, tokens: TokenBatch, temperature: float) -> Logprobs:
        """`Policy.logprobs` under the current weights."""

    def zero_grad(self) -> None:
        """Begin an optimizer step."""

    def backward(self, loss: Tensor, is_last: bool) -> None:
        """Accumulate the gradient of one micro-batch's share of the loss; after the last, sum it over ranks."""

    def gradient_norm(self) -> Tensor:
        """L2 norm of the whole gradient, equal on all ranks; NaN or infinite if the gradient is not finite."""

    def step(self, norm: Tensor) -> float | None:
        """Clip by the gradient's norm, then step optimizer and schedule. Returns the change's L2 norm, if known."""

    def discard(self) -> None:
        """Drop the gradient without stepping."""

    def own_weights(self) -> Iterator[Tensor]:
        """This rank's part of the weights."""

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """All weights under their transformers names, with adapters merged. Copy a tensor before keeping it."""

    def state(self) -> tuple[Tensors, Tensors]:
        """The trained weights by name, and AdamW's state as `name/moment`; both empty on ranks other than the first."""

    def load_state(self, weights: Tensors, moments: Tensors) -> None:
        """Restore what `state` returned on the first rank; every rank passes the whole tensors."""


def trained_parameters(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The parameters that are trained, by name; tied ones appear once."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, updates_per_step: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule with linear warm-up over `warmup_steps` training steps, then constant."""
    warm = settings.warmup_steps * updates_per_step
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / max(warm, 1)))
