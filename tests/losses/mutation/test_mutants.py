"""Each one-sign error is noticed by every comparison that it concerns, and no vector or array is blind."""

from collections.abc import Callable
from typing import Any

import pytest

from losses import FIPO, group_advantages, influence_weights, sequence_filter, token_weights
from losses.averaging import mask_totals
from losses.discounted_sum import block_weights, blocked_sum
from losses.future_kl import future_kl, unsafe, weight_bounds
from losses.surrogate import clip_diagnostics, clipped_surrogate, policy_log_ratio
from tests.losses.mutation.mutated import mutated
from tests.losses.published import golden
from tests.losses.published.comparisons import COMPARISONS, FIPOS, LOSSES, noticed

# function, its code, the mutant's code, the comparisons that must notice; those that most vectors notice come first
MUTANTS = [
    (block_weights, "-distance / decay", "distance / decay", FIPOS),
    (unsafe, "advantages < 0", "advantages > 0", FIPOS),
    (sequence_filter, "> delta", "< delta", {"authors fipo"}),
    (token_weights, "/ divisor", "* divisor", LOSSES),
    (policy_log_ratio, "- batch.old", "+ batch.old", LOSSES),
    (policy_log_ratio, "clamp(-log_ratio_clamp", "clamp(log_ratio_clamp", LOSSES - {"page fipo", "page dapo"}),
    (future_kl, "log_ratio.clamp(-", "(-log_ratio).clamp(-", FIPOS),
    (block_weights, "distance >= 0", "distance <= 0", FIPOS),
    (block_weights, "distance >= 0", "distance > 0", FIPOS),
    (block_weights, "position - tokens", "tokens - position", FIPOS),
    (blocked_sum, "return sums.addcmul_", "return (-sums).addcmul_", FIPOS),
    (blocked_sum, "sums[:, 1:, 0], (0, 1)", "sums[:, :-1, 0], (1, 0)", FIPOS),
    (blocked_sum, "decay_rate / BLOCK", "decay_rate * BLOCK", FIPOS),
    (future_kl, "mask & ~(", "mask & (", FIPOS),
    (future_kl, "log_ratio.exp() > delta", "log_ratio.exp() < delta", {"page fipo"}),
    (future_kl, "log_ratio > math.log", "log_ratio < math.log", {"authors fipo", "slime"}),
    (future_kl, "log_ratio > math.log", "log_ratio >= math.log", {"authors fipo", "slime"}),
    (weight_bounds, "if clip_high_only", "if not clip_high_only", FIPOS),
    (weight_bounds, "1.0 - clip_range", "1.0 + clip_range", FIPOS),
    (weight_bounds, "), 1.0 + clip_range", "), 1.0 - clip_range", FIPOS),
    (weight_bounds, "0.0, math.inf", "0.0, -math.inf", {"page fipo"}),
    (weight_bounds, "else weight_bound", "else -weight_bound", {"authors fipo"}),
    (influence_weights, "detach().to(", "detach().neg().to(", FIPOS),
    (unsafe, "> safety_threshold", "< safety_threshold", FIPOS),
    (influence_weights, "0.8, 1.0", "1.0, 1.0", FIPOS),
    (FIPO.__call__, "advantages * weights", "advantages / weights", FIPOS),
    (clipped_surrogate, "-advantages * cut", "advantages * cut", LOSSES),
    (clipped_surrogate, "1 - epsilon_low", "1 + epsilon_low", LOSSES),
    (clipped_surrogate, "1 + epsilon_high", "1 - epsilon_high", LOSSES),
    (clipped_surrogate, "clamp(1 - epsilon_low, delta)", "clamp(1 - epsilon_low)", LOSSES),
    (clipped_surrogate, "clamp(max=", "clamp(min=", LOSSES),
    (clipped_surrogate, "advantages < 0", "advantages > 0", LOSSES),
    (clip_diagnostics, "-log_ratio", "log_ratio", {"authors dapo"}),
    (clip_diagnostics, "ratio < 1 - epsilon_low", "ratio > 1 - epsilon_low", {"authors dapo"}),
    (clip_diagnostics, "ratio > 1 + epsilon_high", "ratio < 1 + epsilon_high", {"authors dapo"}),
    (clip_diagnostics, "advantages > 0", "advantages < 0", {"authors dapo"}),
    (clip_diagnostics, "ratio > delta", "ratio < delta", {"authors dapo"}),
    (sequence_filter, "advantages < 0", "advantages > 0", {"authors fipo"}),
    (sequence_filter, "<= 1", "< 1", {"authors fipo"}),
    (mask_totals, "mask.any(dim=1).sum()", "(~mask.any(dim=1)).sum()", LOSSES - {"authors dapo"}),
    (token_weights, "responses * mask.sum", "responses / mask.sum", LOSSES),
    (token_weights, "responses * (max_resp", "responses / (max_resp", {"page fipo", "page dapo", "authors fipo"}),
    (group_advantages, "rewards - mean", "rewards + mean", {"advantages"}),
    (group_advantages, "lowest == highest", "lowest != highest", {"advantages"}),
    (group_advantages, "size - ddof", "size + ddof", {"advantages"}),
    (group_advantages, "[group] + std_eps", "[group] - std_eps", {"advantages"}),
    (group_advantages, "correction=ddof) + std_eps", "correction=ddof) - std_eps", {"advantages"}),
    (group_advantages, "correction=ddof", "correction=-ddof", {"advantages"}),
]


@pytest.mark.parametrize(("function", "old", "new", "concerned"), MUTANTS)
def test_mutant_is_noticed(function: Callable[..., Any], old: str, new: str, concerned: set[str]) -> None:
    with mutated(function, old, new):
        blind = {comparison for comparison in concerned if not any(noticed(comparison))}
    assert blind == set()


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_every_vector_and_array_notices_a_mutant(comparison: str) -> None:
    numbers, names = COMPARISONS[comparison]
    vectors, arrays = set(), set()
    for name in names:
        vector = golden.load(name)
        theirs = {array for array, values in golden.compared(numbers(vector), vector).items() if values.any()}
        # vectors in which all numbers are 0, such as those of equal rewards, may notice none
        vectors |= {name} if theirs else set()
        arrays |= theirs
    for function, old, new, concerned in MUTANTS:
        if comparison in concerned and (vectors or arrays):
            with mutated(function, old, new):
                for name, array in noticed(comparison):
                    vectors.discard(name)
                    arrays.discard(array)
    assert (vectors, arrays) == (set(), set())
