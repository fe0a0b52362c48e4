"""The training backend of a single process: torch's AdamW, which steps float32 copies of weights in bfloat16.

A bfloat16 weight has 8 significant bits, so adding a step of 1e-6 to it would mostly leave it as it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.backends.backend import Tensors, make_schedule, trained_parameters
from harness.backends.ranks import ALONE, Ranks
from harness.config.schema import OptimizerSettings
from harness.model.lora import exported
from harness.model.packing import TokenBatch
from harness.model.policy import Logprobs, Policy

FUSED_FROM = 10**6  # weights on a CPU, from which AdamW takes one pass over them instead of seven
PART = 2**20  # numbers; float64 copies of more leave the cache and take a CPU ten times longer


@dataclass(frozen=True)
class TorchBackend:
    """A single process with torch's AdamW.

    `masters` holds by name what the optimizer steps: the trained parameters themselves, or float32 copies of those that
    are in bfloat16. Gradients are accumulated in the masters' dtype.
    """

    policy: Policy
    masters: Tensors
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    grad_clip: float
    ranks: Ranks = ALONE
    must_copy_weights = False

    def logprobs(self, tokens: TokenBatch, temperature: float) -> Logprobs:
        return self.policy.logprobs(tokens, temperature)

    def zero_grad(self) -> None:
        self.policy.model.zero_grad()

    def backward(self, loss: Tensor, is_last: bool) -> None:  # noqa: ARG002  (needed with several ranks)
        loss.backward()

    def gradient_norm(self) -> Tensor:
        return torch.nn.utils.get_total_norm([p.grad for p in self.policy.model.parameters() if p.grad is not None])

    @torch.no_grad()
    def step(self, norm: Tensor) -> float:
        """Clip and step, one tensor at a time, so that only one copy is needed at once.

        Returns the L2 norm of the masters' change, including weight decay and rounding.
        """
        torch.nn.utils.clip_grads_with_norm_(self.policy.model.parameters(), self.grad_clip, norm)
        (group,) = self.optimizer.param_groups
        moved = [torch.zeros((), dtype=torch.float64, device=self.policy.device)]
        for name, parameter in trained_parameters(self.policy.model):
            if parameter.grad is None:
                continue
            master = self.masters[name]
            master.grad, before = parameter.grad, master.clone()
            self.optimizer.param_groups = [group | {"params": [master]}]
            self.optimizer.step()
            parts = before.sub_(master).flatten().split(PART)
            moved += [torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts]
            if master is not parameter:
                parameter.copy_(master)
                master.grad = None
        self.optimizer.param_groups = [group]
        self.schedule.step()
        return float(torch.stack(moved).norm())

    def discard(self) -> None:
        self.zero_grad()

    def own_weights(self) -> Iterator[Tensor]:
        return (parameter.detach() for parameter in self.policy.model.parameters())

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        return exported(self.policy.model)

    def state(self) -> tuple[Tensors, Tensors]:
        moments = {
            f"{name}/{key}": value.contiguous()
            for name, master in self.masters.items()
            for key, value in self.optimizer.state[master].items()
        }
        return dict(self.masters), moments

    @torch.no_grad()
    def load_state(self, weights: Tensors, moments: Tensors) -> None:
        parameters = dict(trained_parameters(self.policy.model))
        for name, value in weights.items():
            for own in (self.masters[name], parameters[name]):
                own.copy_(value)
        for key, tensor in moments.items():
            name, _, moment = key.rpartition("/")
            master = self.masters[name]
            like = torch.empty(()) if moment == "step" else master  # AdamW counts steps on the host
            self.optimizer.state[master][moment] = tensor.to(like, copy=True)


def torch_backend(policy: Policy, settings: OptimizerSettings, updates_per_step: int) -> TorchBackend:
    parameters = dict(trained_parameters(policy.model))
    masters = {name: one.detach().float() if one.dtype == torch.bfloat16 else one for name, one in parameters.items()}
    for name, parameter in parameters.items():
        parameter.grad_dtype = masters[name].dtype
    is_large = policy.device.type == "cpu" and sum(one.numel() for one in masters.values()) >= FUSED_FROM
    optimizer = torch.optim.AdamW(
        masters.values(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True if is_large else None
    )
    return TorchBackend(
        policy, masters, optimizer, make_schedule(optimizer, settings, updates_per_step), settings.grad_clip
    )
