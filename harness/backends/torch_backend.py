"""The training backend of a single process: torch's AdamW."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.backends.backend import Tensors, make_schedule, trained_parameters
from harness.backends.ranks import ALONE, Ranks
from harness.config.schema import OptimizerSettings
from harness.model.checkpointing import checkpointing
from harness.model.lora import exported
from harness.model.packing import TokenBatch
from harness.model.policy import Logprobs, Policy


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


def torch_backend(policy: Policy, settings: OptimizerSettings, updates_per_step: int) -> TorchBackend:
    parameters = [parameter for _, parameter in trained_parameters(policy.model)]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    return TorchBackend(policy, optimizer, make_schedule(optimizer, settings, updates_per_step), settings.grad_clip)
