"""Group-relative advantages, shared by all losses."""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from losses.parts.precision import computation_dtype

AdvantageScale = Literal["group", "batch", "none"]


def group_advantages(
    rewards: Shaped[Tensor, " response"],
    group_ids: Int[Tensor, " response"],
    std_eps: float = 1e-6,
    scale: AdvantageScale = "group",
) -> Float[Tensor, " response"]:
    """Each response's reward relative to those of the other responses to the same prompt.

        A_i = (R_i - mean(R_group)) / (std + std_eps)

    DeepSeekMath (arXiv 2402.03300) section 4.1.2, DAPO (arXiv 2503.14476) eq. 9; neither states std_eps or what divides
    the variance. The authors' FIPO code uses std_eps 1e-6, ms-swift and TRL 1e-4; all divide by n - 1, as here. The
    standard deviation is that of the group or of the whole batch, according to `scale`; with "none" there is no
    divisor, as in Dr. GRPO.

    Groups are identified by id, not by position. Equal rewards and groups of one give exactly 0; the authors' code
    gives R / (1 + std_eps) to a group of one. Raises ValueError for an unknown `scale`.
    """
    if scale not in get_args(AdvantageScale):
        raise ValueError(f"scale must be one of {', '.join(get_args(AdvantageScale))}, got {scale!r}")
    rewards = rewards.to(computation_dtype(rewards))
    group: Tensor
    _, group, size = torch.unique(group_ids, return_inverse=True, return_counts=True)
    mean = rewards.new_zeros(len(size)).index_add(0, group, rewards) / size
    lowest = rewards.new_zeros(len(size)).scatter_reduce(0, group, rewards, "amin", include_self=False)
    highest = rewards.new_zeros(len(size)).scatter_reduce(0, group, rewards, "amax", include_self=False)
    # compares the rewards themselves, because rounding may make the mean of equal rewards differ from them
    equal = (lowest == highest)[group]
    centered: Tensor = rewards - mean[group]
    if scale == "group":
        variance = rewards.new_zeros(len(size)).index_add(0, group, centered**2) / (size - 1)
        centered = centered / (variance.sqrt()[group] + std_eps)
    elif scale == "batch" and len(rewards) > 1:
        centered = centered / (rewards.std() + std_eps)
    return centered.masked_fill(equal, 0.0)
