"""Scores per seed -> intervals, tests, their power, and what an interval decides. The unit is the seed, not the prompt.

Left out on purpose: the percentile bootstrap, whose nominal 95 % interval over 5 seeds covers 82 %, and tests over
prompts alone, which call equal arms different in a third of the cases.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

Scores = Sequence[float] | NDArray[np.float64]
MOST_SEEDS = 100_000
LEVEL = 0.05
FEWEST_SEEDS = 5
Decision = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds and its t interval; the ends are not a number below two seeds."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """A difference of two means, its t interval and two-sided p; not a number where the seeds are too few."""

    difference: float
    low: float
    high: float
    p: float


def t_interval(scores: Scores) -> Interval:
    """Mean +- t_{n-1} sd / sqrt(n), 95 %."""
    values = np.asarray(scores, dtype=float)
    mean = float(values.mean()) if values.size else nan
    if values.size < 2:
        return Interval(mean, nan, nan, values.size)
    half = float(special.stdtrit(values.size - 1, 0.975)) * float(values.std(ddof=1)) / sqrt(values.size)
    return Interval(mean, mean - half, mean + half, values.size)


def welch(scores: Scores, baseline: Scores, confidence: float = 0.95) -> Difference:
    """mean(scores) - mean(baseline), with Welch's t interval and p: the two arms may vary differently."""
    a, b = np.asarray(scores, dtype=float), np.asarray(baseline, dtype=float)
    difference = float(a.mean() - b.mean())
    if min(a.size, b.size) < 2:
        return Difference(difference, nan, nan, nan)
    return _t_test(difference, _standard_error(a, b), _welch_df(a, b), confidence)


def paired_t(scores: Scores, baseline: Scores | float = 0.0, confidence: float = 0.95) -> Difference:
    """The t test of the differences seed by seed; both sequences in the same order of seeds. Or of scores against 0."""
    differences = np.asarray(scores, dtype=float) - np.asarray(baseline, dtype=float)
    if differences.size < 2:
        return Difference(float(differences.mean()) if differences.size else nan, nan, nan, nan)
    error = float(differences.std(ddof=1)) / sqrt(differences.size)
    return _t_test(float(differences.mean()), error, differences.size - 1, confidence)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, for claims of which none may be false."""
    return list(map(float, multipletests(p_values, method="holm")[1]))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """The expected share of false ones among all findings that are at least as strong, for exploratory questions."""
    return list(map(float, stats.false_discovery_control(p_values)))


def smallest_detectable_difference(
    scores: Scores, baseline: Scores | None, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """(t_{1-alpha/2, v} + t_{power, v}) sqrt(sd_a^2/n_a + sd_b^2/n_b), v Welch's; None below two seeds.

    Without a baseline the scores are tested against a number: sd/sqrt(n) and n - 1 degrees of freedom.
    """
    a = np.asarray(scores, dtype=float)
    b = None if baseline is None else np.asarray(baseline, dtype=float)
    if a.size < 2 or (b is not None and b.size < 2):
        return None
    if b is None:
        return _quantiles(a.size - 1, alpha, power) * float(a.std(ddof=1)) / sqrt(a.size)
    return _quantiles(_welch_df(a, b), alpha, power) * _standard_error(a, b)


def seeds_needed(
    scores: Scores, baseline: Scores | None, effect: float, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Seeds per arm at which `effect` is the smallest detectable difference, from the spread seen; or None.

    The effect is one that was declared, never the one observed: a study that stops when its own difference would be
    significant has answered nothing.
    """
    a = np.asarray(scores, dtype=float)
    b = None if baseline is None else np.asarray(baseline, dtype=float)
    if a.size < 2 or (b is not None and b.size < 2) or effect <= 0:
        return None
    var_a, var_b = float(a.var(ddof=1)), 0.0 if b is None else float(b.var(ddof=1))
    spread = (var_a + var_b) ** 2 / (var_a**2 + var_b**2) if var_a + var_b > 0 else 1.0

    def detects(n: int) -> bool:
        return _quantiles(spread * (n - 1), alpha, power) * sqrt((var_a + var_b) / n) <= effect

    found = bisect_left(range(2, MOST_SEEDS + 1), True, key=detects) + 2
    return found if found <= MOST_SEEDS else None


def _standard_error(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return sqrt(a.var(ddof=1) / a.size + b.var(ddof=1) / b.size)


def _welch_df(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Satterthwaite's degrees of freedom; the smaller arm's where nothing varies."""
    var_a, var_b = float(a.var(ddof=1)) / a.size, float(b.var(ddof=1)) / b.size
    if var_a + var_b == 0:
        return min(a.size, b.size) - 1
    return (var_a + var_b) ** 2 / (var_a**2 / (a.size - 1) + var_b**2 / (b.size - 1))


def _quantiles(df: float, alpha: float, power: float) -> float:
    return float(special.stdtrit(df, 1 - alpha / 2) + special.stdtrit(df, power))


def _t_test(difference: float, error: float, df: float, confidence: float) -> Difference:
    """Without any spread the answer is plain: equal arms are equal (p = 1), others differ (p = 0)."""
    t = abs(difference) / error if error > 0 else (inf if difference else 0.0)
    half = float(special.stdtrit(df, (1 + confidence) / 2)) * error
    return Difference(difference, difference - half, difference + half, float(2 * special.stdtr(df, -t)))


def level_of(kind: str, primary: int) -> float:
    """The confidence of the interval that decides: 1 - .05/m, for an equivalence 1 - .10/m (two one-sided tests).

    primary: m, the number of primary claims that the study can test; 1 for a claim outside of them.
    """
    return 1 - (2 if kind == "equivalent" else 1) * LEVEL / primary


def decide(kind: str, direction: str, margin: float, low: float, high: float) -> Decision:
    """What an interval says to a claim, and nothing else says; one that is none (too few seeds) says nothing.

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
