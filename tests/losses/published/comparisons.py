"""All comparisons with the reference vectors."""

from collections.abc import Callable

import torch

from losses import group_advantages
from tests.losses.agreement import Numbers
from tests.losses.published import authors, golden, page

# what each recorded array of group advantages is, in our settings
ADVANTAGES = {
    "official__adv": {"std_eps": 1e-6},
    "official__adv_no_std": {"scale": "none"},
    "swift__adv_group": {"std_eps": 1e-4},
    "swift__adv_none": {"std_eps": 1e-4, "scale": "none"},
    "swift__adv_batch": {"std_eps": 1e-4, "scale": "batch"},
}


def advantage_numbers(vector: golden.Vector) -> Numbers:
    """The recorded advantages as ours."""
    rewards = vector["in__rewards"]
    groups = torch.arange(len(rewards)).repeat_interleave(rewards.shape[1])
    return {name: group_advantages(rewards.flatten(), groups, **own) for name, own in ADVANTAGES.items()}


# a comparison's numbers of ours, and the vectors on which they are compared
COMPARISONS: dict[str, tuple[Callable[[golden.Vector], Numbers], list[str]]] = {
    "page fipo": (page.fipo_numbers, golden.LOSS_VECTORS),
    "page dapo": (page.dapo_numbers, golden.LOSS_VECTORS),
    "authors fipo": (authors.fipo_numbers, golden.LOSS_VECTORS),
    "authors dapo": (authors.dapo_numbers, golden.LOSS_VECTORS),
    "slime": (authors.slime_numbers, golden.LOSS_VECTORS),
    "advantages": (advantage_numbers, golden.ADVANTAGE_VECTORS),
}
