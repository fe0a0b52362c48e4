"""Two runs' answers to the same questions -> McNemar's test, and a difference with questions as units.

Both hold for these runs: the variance between seeds is not in them.
"""

import numpy as np

from analysis.statistics.intervals import Difference, Scores, paired_t


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p: a question that one of two runs alone has right is as likely the one's as the other's."""
    from scipy.stats import binomtest

    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0


def clustered(differences: Scores) -> Difference:
    """The mean of a question's mean difference, with t interval and p; questions are units (arXiv 2411.00640)."""
    values = np.asarray(differences, dtype=float)
    return paired_t(values, np.zeros_like(values))
