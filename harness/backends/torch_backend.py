"""The interface of a training backend, and the backend for a single process with torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from harness.backends.ranks import ALONE, Ranks
from harness.config.schema import OptimizerSettings
from harness.errors import UsageError
from harness.model.lora import exported
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
        """`response_logprobs` under the current weights."""

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


@dataclass(frozen=True)
class TorchBackend:
    """A single process with torch's AdamW."""

    policy: Policy
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    grad_clip: float
    ranks: Ranks = ALONE
    must_copy_weights = False

    def logprobs(self, tokens: TokenBatch, temperature: float) -> Logprobs:
        with checkpointing(self.policy.model):
            return self.policy.logprobs(tokens, temperature)

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def backward(self, loss: Tensor, is_last: bool) -> None:  # noqa: ARG002  (needed with several ranks)
        loss.backward()

    def gradient_norm(self) -> Tensor:
        return torch.nn.utils.get_total_norm([p.grad for p in self.policy.model.parameters() if p.grad is not None])

    def step(self, norm: Tensor) -> float:
        torch.nn.utils.clip_grads_with_norm_(self.policy.model.parameters(), self.grad_clip, norm)
        moved = step_and_measure(self.optimizer)
        self.schedule.step()
        return moved

    def discard(self) -> None:
        self.optimizer.zero_grad()

    def own_weights(self) -> Iterator[Tensor]:
        return (parameter.detach() for parameter in self.policy.model.parameters())

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return exported(self.policy.model)

    def state(self) -> tuple[Tensors, Tensors]:
        moments = {
            f"{name}/{key}": value.contiguous()
            for name, parameter in trained_parameters(self.policy.model)
            for key, value in self.optimizer.state[parameter].items()
        }
        return dict(trained_parameters(self.policy.model)), moments

    @torch.no_grad()
    def load_state(self, weights: Tensors, moments: Tensors) -> None:
        parameters = dict(trained_parameters(self.policy.model))
        for name, value in weights.items():
            parameters[name].copy_(value)
        for key, tensor in moments.items():
            name, _, moment = key.rpartition("/")
            parameter = parameters[name]
            device = "cpu" if moment == "step" else parameter.device
            self.optimizer.state[parameter][moment] = tensor.clone().to(device)


def trained_parameters(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The parameters that are trained, by name; tied ones appear once."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


@torch.no_grad()
def step_and_measure(optimizer: torch.optim.Optimizer) -> float:
    """Step the optimizer; returns the L2 norm of the weight change, including weight decay and rounding.

    Steps one tensor at a time, so that only one copy is needed at once.
    """
    groups, moved = optimizer.param_groups, [torch.zeros((), dtype=torch.float64)]
    try:
        for group in groups:
            for parameter in (one for one in group["params"] if one.grad is not None):
                before = parameter.clone()
                optimizer.param_groups = [group | {"params": [parameter]}]
                optimizer.step()
                moved.append(torch.linalg.vector_norm(parameter - before, dtype=torch.float64))
    finally:
        optimizer.param_groups = groups
    return float(torch.stack([norm.to(moved[-1].device) for norm in moved]).norm())


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


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, updates_per_step: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule with linear warm-up over `warmup_steps` training steps, then constant."""
    warm = settings.warmup_steps * updates_per_step
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: min(1.0, (done + 1) / max(warm, 1)))


def torch_backend(policy: Policy, settings: OptimizerSettings, updates_per_step: int) -> TorchBackend:
    parameters = [parameter for _, parameter in trained_parameters(policy.model)]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    return TorchBackend(policy, optimizer, make_schedule(optimizer, settings, updates_per_step), settings.grad_clip)
