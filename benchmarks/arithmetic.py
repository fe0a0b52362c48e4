"""How much arithmetic a model's work needs, and at which rate the machine can do it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.benchmark import Timer

from harness.model.linear import product

SQUARES = (256, 512, 1024)  # rows and columns of the products whose best rate is a CPU's
MEASURED_S = 0.5  # how long a function is called again and again
FORWARD_AND_BACKWARD = 3  # times the forward pass: 2 FLOPs a weight and token, and 4 backward


@dataclass(frozen=True)
class Group:
    """A prompt that is read once, and the responses behind it, in tokens."""

    prompt: int
    responses: Sequence[int]

    @property
    def pairs(self) -> int:
        """Tokens with a token that they look at, themselves included: the triangles that are needed."""
        p = self.prompt
        return p * (p + 1) // 2 + sum(r * p + r * (r + 1) // 2 for r in self.responses)


def forward_flops(model: Any, groups: Sequence[Group]) -> float:
    """FLOPs of one forward pass over the groups: 2 W (P + R) + 2 H R + 4 L A N.

    W: weights of the linear layers, H: those of the output head, P and R: tokens of prompts and responses, L: layers,
    A: width of the queries, N: pairs of tokens that look at each other. The embedding is a look-up, and norms, biases
    and softmax are left out. A prompt counts once a group, as nothing more is needed, and the head at responses alone.
    """
    head = model.get_output_embeddings()
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not head]
    body = sum(layer.weight.numel() for layer in layers)
    prompts, responses = sum(group.prompt for group in groups), sum(sum(group.responses) for group in groups)
    settings = model.config
    size = getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
    width = settings.num_attention_heads * size
    attention = 4 * settings.num_hidden_layers * width * sum(group.pairs for group in groups)
    return float(2 * body * (prompts + responses) + 2 * head.weight.numel() * responses + attention)


def cpu_rate() -> float:
    """FLOPs per second of the machine's best product of float32 matrices on one thread, by MKL or by oneDNN."""
    squares = [torch.randn(size, size) for size in SQUARES]
    return max(product_rate(square, multiply) for square in squares for multiply in (torch.mm, product))


def product_rate(square: torch.Tensor, multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
    """FLOPs per second of the square's product with itself, at best."""
    return 2.0 * len(square) ** 3 / quickest(lambda: multiply(square, square))


def quickest(run: Callable[[], object]) -> float:
    """Seconds of the function's quickest call, on one thread of the CPU; a GPU's work is waited for."""
    return min(Timer("run()", globals={"run": run}).blocked_autorange(min_run_time=MEASURED_S).times)
