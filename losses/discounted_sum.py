"""The discounted sum of what follows each token, in time and memory that grow with the number of tokens alone."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 16  # tokens summed by one row of a matrix product: the quickest of 8 to 128 on a CPU
WHOLE = 128  # up to here one product over all tokens is quicker than blocks


def discounted_future_sum(
    values: Float[Tensor, "sequence token"], decay_rate: float
) -> Float[Tensor, "sequence token"]:
    """S_t = sum_{k >= t} 2^(-(k - t) / decay_rate) v_k. The values must be finite and carry no gradient.

    Blocks of tokens are summed by one small triangular product. What follows a block is the sum at the head of the
    next one, and the heads are summed by this same function, at a decay rate smaller by the length of a block. So
    each token is read and written a fixed number of times; the authors' code multiplies by a T x T matrix.
    """
    if products_are_rounded(values.device.type):
        return blocked_sum(values.double(), decay_rate).to(values.dtype)
    return blocked_sum(values, decay_rate)


def products_are_rounded(device: str) -> bool:
    """Whether autocast or TensorFloat-32 rounds the factors of float32 matrix products; those of float64 never are."""
    backend = torch.backends.cuda if device == "cuda" else torch.backends.mkldnn
    return backend.matmul.fp32_precision not in ("none", "ieee") or torch.is_autocast_enabled(device)


def blocked_sum(values: Float[Tensor, "sequence token"], decay_rate: float) -> Float[Tensor, "sequence token"]:
    """The sum by blocks, in the dtype of the values."""
    sequences, tokens = values.shape
    # what a tensor that only traces has made must not be kept for real ones
    weights = block_weights if type(values) is Tensor else block_weights.__wrapped__
    if tokens <= WHOLE:
        triangle, _ = weights(WHOLE, decay_rate, values.dtype, values.device)
        return values @ triangle[:tokens, :tokens]
    triangle, carry = weights(BLOCK, decay_rate, values.dtype, values.device)
    gap = -tokens % BLOCK
    padded = pad(values, (0, gap)) if gap else values  # pad copies even where nothing is missing
    count = padded.shape[1] // BLOCK
    sums = (padded.reshape(sequences * count, BLOCK) @ triangle).view(sequences, count, BLOCK)
    next_heads = pad(sums[:, 1:, 0], (0, 1))
    later = blocked_sum(next_heads, decay_rate / BLOCK)
    return sums.addcmul_(later[:, :, None], carry).view(sequences, count * BLOCK)[:, :tokens]


@lru_cache(maxsize=64)
def block_weights(
    tokens: int, decay_rate: float, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "from_token to_token"], Float[Tensor, " to_token"]]:
    """What the entries of a block add to its sums, and what the sum at the head of the next block adds to them.

    The powers are taken in float64: in bfloat16 decay rates of 128 and 256 would be the same number.
    """
    position = torch.arange(tokens, dtype=torch.float64, device="cpu")
    distance = position[:, None] - position
    triangle = torch.exp2(-distance / decay_rate).where(distance >= 0, 0.0)
    carry = torch.exp2((position - tokens) / decay_rate)
    return triangle.to(device, dtype), carry.to(device, dtype)
