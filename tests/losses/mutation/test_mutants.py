"""Some one-sign errors of each function are noticed by every comparison that they concern; `make mutants` tries all."""

from collections.abc import Callable
from typing import Any

import pytest

from losses import FIPO, group_advantages, influence_weights, sequence_filter, token_weights
from losses.parts.averaging import mask_totals
from losses.parts.discounted_sum import block_weights, blocked_sum
from losses.parts.future_kl import future_kl, unsafe, weight_bounds
from losses.parts.surrogate import clip_diagnostics, clipped_surrogate, policy_log_ratio
from losses.policy_loss import PolicyLoss
from tests.losses.mutation.mutated import mutated
from tests.losses.published.comparisons import FIPOS, LOSSES, noticed

# function, its code, the mutant's code, the comparisons that must notice; those that most vectors notice come first
MUTANTS = [
    (block_weights, "-distance / decay", "distance / decay", FIPOS),
    (unsafe, "advantages < 0", "advantages > 0", FIPOS),
    (sequence_filter, "> delta", "< delta", {"authors fipo"}),
    (token_weights, "/ divisor", "* divisor", LOSSES),
    (policy_log_ratio, "- batch.old", "+ batch.old", LOSSES),
    (blocked_sum, "return sums.addcmul_", "return (-sums).addcmul_", FIPOS),
    (future_kl, "log_ratio.exp() > delta", "log_ratio.exp() < delta", {"page fipo"}),
    (future_kl, "log_ratio > math.log", "log_ratio < math.log", {"authors fipo", "slime"}),
    (weight_bounds, "1.0 - clip_range", "1.0 + clip_range", FIPOS),
    (weight_bounds, "else weight_bound", "else -weight_bound", {"authors fipo"}),
    (influence_weights, "detach().to(", "detach().neg().to(", FIPOS),
    (FIPO.per_token, "advantages * weights", "advantages / weights", FIPOS),
    (clipped_surrogate, "-advantages * cut", "advantages * cut", LOSSES),
    (clipped_surrogate, "1 - epsilon_low", "1 + epsilon_low", LOSSES),
    (clipped_surrogate, "1 + epsilon_high", "1 - epsilon_high", LOSSES),
    (clipped_surrogate, "clamp(1 - epsilon_low, delta)", "clamp(1 - epsilon_low)", LOSSES),
    (clipped_surrogate, "advantages < 0", "advantages > 0", LOSSES),
    (PolicyLoss.__call__, "-log_ratio", "log_ratio", {"authors dapo"}),
    (clip_diagnostics, "ratio > delta", "ratio < delta", {"authors dapo"}),
    (mask_totals, "mask.any(dim=1).sum()", "(~mask.any(dim=1)).sum()", LOSSES - {"authors dapo"}),
    (group_advantages, "rewards - mean", "rewards + mean", {"advantages"}),
    (group_advantages, "size - ddof", "size + ddof", {"advantages"}),
]


@pytest.mark.parametrize(("function", "old", "new", "concerned"), MUTANTS)
def test_mutant_is_noticed(function: Callable[..., Any], old: str, new: str, concerned: set[str]) -> None:
    with mutated(function, old, new):
        blind = {comparison for comparison in concerned if not any(noticed(comparison))}
    assert blind == set()
