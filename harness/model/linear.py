"""Products of float32 matrices on a CPU by oneDNN, which uses AVX-512 wherever the CPU has it.

torch multiplies by MKL, which uses AVX-512 only on Intel's CPUs and runs at half the rate on others. A row's product by
oneDNN has the same bits in every batch of two or more rows. Weights of fewer than MIN_WEIGHTS numbers are left to MKL:
for them a call of oneDNN costs more than it saves.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MIN_WEIGHTS = 2**14


def use_onednn(model: torch.nn.Module) -> None:
    """Let the model's linear layers multiply by oneDNN; their parameters and names stay what they are."""
    for module in model.modules():
        if type(module) is torch.nn.Linear and has_onednn(module.weight):
            module.__class__ = OneDnnLinear


def has_onednn(weight: Tensor) -> bool:
    """Whether `product` by this weight is oneDNN's."""
    is_plain = weight.device.type == "cpu" and weight.dtype == torch.float32
    has_both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return is_plain and weight.numel() >= MIN_WEIGHTS and has_both


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows @ weight.T + bias, without a gradient. Both may be transposed views."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result


class OneDnnLinear(torch.nn.Linear):
    """A linear layer by oneDNN, where `has_onednn` of its weight."""

    def forward(self, rows: Tensor) -> Tensor:
        """rows @ weight.T + bias."""
        if not has_onednn(self.weight):
            return super().forward(rows)
        if not torch.is_grad_enabled():
            return product(rows, self.weight, self.bias)
        result: Tensor = LinearProduct.apply(rows, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return result


class LinearProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """rows @ weight.T + bias."""
        ctx.save_for_backward(rows, weight)
        return product(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the rows, the weight and the bias that need one."""
        rows, weight = ctx.saved_tensors
        flat = upstream.flatten(0, -2)
        needs_rows, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            product(upstream, weight.T) if needs_rows else None,
            product(flat.T, rows.flatten(0, -2).T) if needs_weight else None,
            flat.sum(dim=0) if needs_bias else None,
        )
