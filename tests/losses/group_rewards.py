"""What losses/ gives for the reference vectors of group advantages."""

import torch

from losses import group_advantages
from tests.losses import golden
from tests.losses.agreement import Numbers

# what each recorded array is, in our settings
SETTINGS = {
    "official__adv": {"std_eps": 1e-6},
    "official__adv_no_std": {"scale": "none"},
    "swift__adv_group": {"std_eps": 1e-4},
    "swift__adv_none": {"std_eps": 1e-4, "scale": "none"},
    "swift__adv_batch": {"std_eps": 1e-4, "scale": "batch"},
}


def advantage_numbers(vector: golden.Vector, **changes: float) -> Numbers:
    """The recorded advantages as ours, the changes made to each setting."""
    rewards = vector["in__rewards"]
    groups = torch.arange(len(rewards)).repeat_interleave(rewards.shape[1])
    return {
        name: group_advantages(rewards.flatten(), groups, **settings | changes) for name, settings in SETTINGS.items()
    }
