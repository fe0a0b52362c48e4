import numpy as np
import pandas as pd
import pytest

from analysis.figures.surface import surface
from tests.analysis.agreement import agree


def test_a_surface_finds_a_plane_and_stays_within_the_hull() -> None:
    points = pd.DataFrame({"a": [0.1, 1.0, 10.0, 0.2, 3.0, 8.0], "b": [1.0, 2.0, 1.5, 3.0, 2.5, 4.0]})
    found = surface(points, np.log(points["a"]) + points["b"], ["log", "linear"])
    assert found is not None
    table = found.table
    assert agree(table["height"], np.log(table["x"]) + table["y"])
    assert found.predicted > 0.99
    # (10, 4) and (0.1, 4) are corners of the box and outside the hull
    assert not ((table["x"] > 9.9) & (table["y"] > 3.9)).any()
    assert not ((table["x"] < 0.11) & (table["y"] > 3.9)).any()


def test_a_surface_of_noise_says_that_it_predicts_nothing() -> None:
    rng = np.random.default_rng(3)
    points, values = pd.DataFrame(rng.random((30, 2))), pd.Series(rng.normal(size=30))
    found = surface(points, values, ["linear", "linear"])
    assert found is not None
    assert found.predicted < 0.1


@pytest.mark.parametrize("points", [[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)], [(1, 2)] * 6, [(1, 1), (2, 1), (1, 3)]])
def test_points_that_span_no_area_have_no_surface(points: list[tuple[int, int]]) -> None:
    assert surface(pd.DataFrame(points), pd.Series(range(len(points)), dtype=float), ["log", "log"]) is None
