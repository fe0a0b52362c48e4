"""DAPO's per-token loss."""

from dataclasses import dataclass

from losses.grpo import GRPO


@dataclass(frozen=True, kw_only=True)
class DAPO(GRPO):
    """Decoupled Clip and Dynamic Sampling Policy Optimization (arXiv 2503.14476, eq. 8).

    Per token the formula is GRPO's. Each of DAPO's changes is a separate setting: the bounds (clip-higher, epsilon_high
    0.28), the averaging (`token_mean`), no KL, and in the harness dynamic sampling and the soft overlong penalty.
    """
