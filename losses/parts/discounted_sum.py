"""The discounted sum over each token and all later ones, in time and memory linear in the number of tokens."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 16  # tokens per block; the fastest value between 8 and 128 on a CPU
WHOLE = 128  # up to this many tokens a single matrix product is faster than blocks


def discounted_future_sum(
    values: Float[Tensor, "sequence token"], decay_rate: float
) -> Float[Tensor, "sequence token"]:
    """S_t = sum_{k >= t} 2^(-(k - t) / decay_rate) v_k. The values must be finite and carry no gradient.

    Within blocks of tokens the sum is a product with a small triangular matrix. The contribution of later blocks is the
    sum at the first token of the next block; these are computed by the same function, with the decay rate divided by
    the block length. The cost is therefore linear in T, whereas the authors' code multiplies by a T x T matrix.
    """
    if products_are_rounded(values.device.type):
        return blocked_sum(values.double(), decay_rate).to(values.dtype)
    return blocked_sum(values, decay_rate)


def products_are_rounded(device: str) -> bool:
    """Whether autocast or TensorFloat-32 rounds the factors of float32 matrix products; float64 is never affected."""
    backend = torch.backends.cuda if device == "cuda" else torch.backends.mkldnn
    return backend.matmul.fp32_precision not in ("none", "ieee") or torch.is_autocast_enabled(device)


def blocked_sum(values: Float[Tensor, "sequence token"], decay_rate: float) -> Float[Tensor, "sequence token"]:
    """`discounted_future_sum` in the dtype of the values."""
    sequences, tokens = values.shape
    # while tracing (tensor subclasses), bypass the cache, which must hold real tensors only
    weights = block_weights if type(values) is Tensor else block_weights.__wrapped__
    if tokens <= WHOLE:
        triangle, _ = weights(WHOLE, decay_rate, values.dtype, values.device)
        return values @ triangle[:tokens, :tokens]
    triangle, carry = weights(BLOCK, decay_rate, values.dtype, values.device)
    gap = -tokens % BLOCK
    padded = pad(values, (0, gap)) if gap else values  # pad copies even if the gap is 0
    count = padded.shape[1] // BLOCK
    sums = (padded.reshape(sequences * count, BLOCK) @ triangle).view(sequences, count, BLOCK)
    next_heads = pad(sums[:, 1:, 0], (0, 1))
    later = blocked_sum(next_heads, decay_rate / BLOCK)
    return sums.addcmul_(later[:, :, None], carry).view(sequences, count * BLOCK)[:, :tokens]


@lru_cache(maxsize=64)
def block_weights(
    tokens: int, decay_rate: float, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "from_token to_token"], Float[Tensor, " to_token"]]:
    """The weights of a block's values in its sums, and the weights of the sum at the start of the next block.

    The powers are computed in float64: in bfloat16 decay rates of 128 and 256 would give the same discount.
    """
    position = torch.arange(tokens, dtype=torch.float64, device="cpu")
    distance = position[:, None] - position
    triangle = torch.exp2(-distance / decay_rate).where(distance >= 0, 0.0)
    carry = torch.exp2((position - tokens) / decay_rate)
    return triangle.to(device, dtype), carry.to(device, dtype)
