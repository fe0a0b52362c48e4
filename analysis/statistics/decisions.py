"""The rule by which an interval decides a claim. Nothing else decides: no p value, no look at the numbers."""

from typing import Literal

LEVEL = 0.05
FEWEST_SEEDS = 5
Decision = Literal["supported", "contradicted", "undecided"]


def level_of(kind: str, primary: int) -> float:
    """The confidence of the interval that decides: 1 - .05/m, for an equivalence 1 - .10/m (two one-sided tests).

    primary: m, the number of primary claims that the study can test; 1 for a claim outside of them.
    """
    return 1 - (2 if kind == "equivalent" else 1) * LEVEL / primary


def decide(kind: str, direction: str, margin: float, low: float, high: float) -> Decision:
    """What an interval says to a claim; an interval that is none (too few seeds) says nothing.

    superior: supported where it lies wholly beyond the margin in the claim's direction, contradicted where it lies
    wholly on the other side of it. equivalent: supported where it lies inside +-margin, contradicted wholly outside.
    """
    if kind == "equivalent":
        if -margin < low and high < margin:
            return "supported"
        return "contradicted" if low > margin or high < -margin else "undecided"
    if direction == "lower":
        low, high = -high, -low
    if low > margin:
        return "supported"
    return "contradicted" if high < margin else "undecided"
