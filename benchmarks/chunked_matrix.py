"""The published algorithm for Future-KL, plainly: a matrix of decays, a chunk of its columns at a time."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CHUNK = 128  # columns at a time, as published


def future_kl(
    log_ratio: Float[Tensor, "sequence token"],
    mask: Bool[Tensor, "sequence token"],
    decay_rate: float,
    delta: float | None = None,
) -> Float[Tensor, "sequence token"]:
    """What `losses.future_kl` returns, in time that grows with the square of the length (FIPO, appendix G)."""
    log_ratio = log_ratio.detach()
    kept = mask if delta is None else mask & (log_ratio.exp() <= delta)
    shifts = torch.where(kept, log_ratio, 0.0)
    position = torch.arange(mask.shape[1], device=mask.device)
    chunks = []
    for start in range(0, mask.shape[1], CHUNK):
        distance = position[:, None] - position[start : start + CHUNK]
        decay = torch.pow(2.0 ** (-1.0 / decay_rate), distance.clamp(min=0)).to(shifts.dtype)
        chunks.append(shifts @ torch.where(distance >= 0, decay, 0.0))
    return torch.where(mask, torch.cat(chunks, dim=1), 0.0)
