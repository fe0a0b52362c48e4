"""Log-probabilities and entropies of given tokens, without storing the full [token, vocabulary] matrix of logits.

Left out on purpose: a gradient of the entropy, which none of the losses uses.
"""

from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.model.linear import has_onednn
from harness.model.linear import product as onednn_product

CHUNK_BYTES = 2**26  # size of the float32 logits computed at a time on a CPU
GPU_CHUNK_BYTES = (
    2**29
)  # each chunk reads the head and adds to its gradient anew, which takes a GPU longer than small logits
KEPT_BYTES = 2**29  # at most; kept probabilities save the backward pass a matrix product


def token_logprobs(
    hidden: Float[Tensor, "token hidden"],
    head: Float[Tensor, "vocabulary hidden"],
    tokens: Int[Tensor, " token"],
    temperature: float,
) -> tuple[Float[Tensor, " token"], Float[Tensor, " token"]]:
    """log softmax(head @ hidden / temperature) at each token, and that distribution's entropy (nats, no gradient).

    The logits are computed in chunks of tokens, and beyond KEPT_BYTES again in the backward pass. That takes four
    matrix products instead of three, but memory for a few chunks of logits instead of several full matrices. Logits and
    log-softmax are in float32 regardless of the model's dtype and of autocast; TensorFloat-32, if enabled, applies to
    them as well. Without tensor cores a bfloat16 model additionally needs a float32 copy of its head.
    """
    keeps = torch.is_grad_enabled() and 4 * len(hidden) * len(head) <= KEPT_BYTES
    with torch.autocast(hidden.device.type, enabled=False):
        logprobs, entropy = TokenLogprobs.apply(hidden, head, tokens, temperature, keeps)  # type: ignore[no-untyped-call]
    return logprobs, entropy


class TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, tokens: Tensor, temperature: float, keeps: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies. Saves all probabilities if it `keeps` them, else their normalisers alone."""
        logprobs, entropy, normaliser = (hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(3))
        kept = hidden.new_empty((len(hidden) if keeps else 0, len(head)), dtype=torch.float32)
        weight = factor(head)
        product = product_with(weight)
        for chunk in chunks(hidden, len(head)):
            logits = product(factor(hidden[chunk]), weight.T).div_(temperature)
            normaliser[chunk] = logits.logsumexp(dim=1)
            logprobs[chunk] = logits.gather(1, tokens[chunk, None]).squeeze(1) - normaliser[chunk]
            probabilities = torch.sub(logits, normaliser[chunk, None], out=kept[chunk] if keeps else None).exp_()
            entropy[chunk] = normaliser[chunk] - torch.linalg.vecdot(probabilities, logits)
        ctx.save_for_backward(hidden, head, tokens, normaliser, kept)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _entropy: Tensor) -> tuple[Tensor | None, ...]:
        """d log p / d logit_v = ([v is the token] - p_v) / temperature; no gradient for a frozen head."""
        hidden, head, tokens, normaliser, kept = ctx.saved_tensors
        hidden_gradient = torch.empty_like(hidden)
        head_gradient = torch.zeros_like(head, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        weight = factor(head)
        product = product_with(weight)
        with torch.autocast(hidden.device.type, enabled=False):
            for chunk in chunks(hidden, len(head)):
                scale, shift = upstream[chunk, None] / ctx.temperature, normaliser[chunk, None]
                rows = factor(hidden[chunk])
                gradient = kept[chunk]
                if not len(kept):
                    gradient = product(rows, weight.T).div_(ctx.temperature).sub_(shift).exp_()
                gradient.mul_(-scale).scatter_add_(1, tokens[chunk, None], scale)
                parts = split(gradient, rows.dtype)
                hidden_gradient[chunk] = reduce(torch.add, (product(part, weight) for part in parts)).to(hidden.dtype)
                if head_gradient is not None and product is torch.mm:
                    head_gradient.addmm_(gradient.T, rows)
                elif head_gradient is not None:
                    for part in parts:
                        head_gradient += product(part.T, rows)
        return hidden_gradient, None if head_gradient is None else head_gradient.to(head.dtype), None, None, None


def factor(tensor: Tensor) -> Tensor:
    """The tensor as its products take it: in bfloat16 for a GPU's tensor cores, else in float32."""
    has_tensor_cores = tensor.is_cuda and torch.backends.cuda.is_built()
    return tensor if has_tensor_cores and tensor.dtype == torch.bfloat16 else tensor.float()


def product_with(weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The matrix product in float32 for factors like the head's weight; of two bfloat16 numbers it is exact."""
    if weight.dtype == torch.bfloat16:
        return partial(torch.mm, out_dtype=torch.float32)
    return (lambda left, right: onednn_product(left, right.T)) if has_onednn(weight) else torch.mm


def split(gradient: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Tensors of this dtype whose sum is the gradient: itself in float32; two in bfloat16, to 2**-17 of each entry."""
    if dtype == torch.float32:
        return [gradient]
    high = gradient.to(dtype)
    return [high, (gradient - high).to(dtype)]


def chunks(hidden: Tensor, vocabulary: int) -> Iterator[slice]:
    """Slices of the tokens whose logits take at most CHUNK_BYTES each, or on a GPU GPU_CHUNK_BYTES."""
    size = max(1, (GPU_CHUNK_BYTES if hidden.is_cuda else CHUNK_BYTES) // (4 * vocabulary))
    return (slice(start, start + size) for start in range(0, len(hidden), size))
