"""Tests and intervals over the questions that two arms answered."""

import pytest

from analysis.statistics.questions import clustered, mcnemar


def test_mcnemar_and_questions_as_units() -> None:
    assert mcnemar(1, 8) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(0, 0) == 1.0
    found = clustered([1.0, 0.0, 0.0, 0.0])  # mean 1/4, sd 1/2, so t 1 at 3 degrees of freedom
    assert found.p == pytest.approx(0.39100, abs=1e-5)
    assert found.high - found.difference == pytest.approx(3.18245 / 4, abs=1e-5)
