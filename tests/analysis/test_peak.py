from math import pi, sqrt

import numpy as np
import pandas as pd

from analysis.statistics.peak import expected_maximum, peak_inflation
from tests.analysis.agreement import agree


def test_expected_maximum_of_equal_normals() -> None:
    # E[max] of n standard normals: 0, 1/sqrt(pi), 3/(2 sqrt(pi)); n = 1, 2, 3 (order statistics, e.g. David 1981)
    known = [0.0, 1 / sqrt(pi), 1.5 / sqrt(pi)]
    assert np.allclose([expected_maximum(np.ones(n)) for n in (1, 2, 3)], known, atol=1e-6)
    assert expected_maximum(np.array([])) == 0.0
    assert np.isclose(expected_maximum(np.full(3, 0.02)), 0.02 * known[2], atol=1e-8)


def test_expected_maximum_of_unequal_normals_by_simulation() -> None:
    deviations = np.array([0.5, 1.0, 2.0])
    draws = np.random.default_rng(0).normal(size=(400_000, 3)) * deviations
    assert abs(expected_maximum(deviations) - draws.max(axis=1).mean()) < 0.005


def test_inflation_is_that_of_the_sampling_error_within_prompts() -> None:
    """Two prompts, one always right, one right in half: only the second's answers can be lucky."""
    final = pd.DataFrame({"step": 2, "prompt_id": list("aaaabbbb"), "correct": [1, 1, 1, 1, 1, 1, 0, 0]})
    evaluations = pd.concat([final.assign(step=1), final])
    # Unbiased variance of one answer: b has 1/4 x 4/3, a none; mean 1/6; of a mean over 8 answers: 1/48.
    assert agree(peak_inflation(evaluations, final), expected_maximum(np.full(2, sqrt(1 / 48))))
    assert np.isnan(peak_inflation(evaluations, final.drop_duplicates("prompt_id")))
