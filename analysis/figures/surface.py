"""Scattered values over two parameters -> a smooth surface between them, and whether it predicts a trial left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from scipy.spatial import Delaunay, QhullError

Points = NDArray[np.float64]
SMOOTHINGS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
GRID = 61
FEWEST = 5
BULGE = 1e-4


@dataclass(frozen=True)
class Surface:
    """Heights within the hull of the points and nowhere else: nothing is extrapolated.

    table: x, y, height, and u, v: x and y in the unit square in which the hull was taken.
    predicted: 1 - squared error of predicting each point from the others / that of the others' mean; at 0 or below,
    the surface knows no more than the mean does.
    """

    table: pd.DataFrame
    smoothing: float
    predicted: float


def surface(points: pd.DataFrame, values: pd.Series, scales: Sequence[str]) -> Surface | None:
    """A thin-plate spline whose smoothing predicts left-out points best; None where the points span no area.

    points: two columns, each taken in its logarithm where its scale is `log`, then both scaled to the unit square.
    Points in one place count once, with their mean.
    """
    log = np.array([scale == "log" for scale in scales])
    raw = points.to_numpy(float)
    places, heights = _merged(np.where(log, np.log(np.where(log, raw, 1.0)), raw), values.to_numpy(float))
    low, span = places.min(axis=0), np.ptp(places, axis=0)
    if len(places) < FEWEST or not span.all():
        return None
    unit = (places - low) / span
    errors = {smoothing: _left_out_error(unit, heights, smoothing) for smoothing in SMOOTHINGS}
    best = min(errors, key=lambda smoothing: errors[smoothing])
    if not np.isfinite(errors[best]):
        return None
    mesh = _mesh(unit)
    drawn = low + mesh * span
    x, y = np.where(log, np.exp(np.where(log, drawn, 0.0)), drawn).T
    height = _spline(unit, heights, best)(mesh)
    table = pd.DataFrame({"u": mesh[:, 0], "v": mesh[:, 1], "x": x, "y": y, "height": height})
    return Surface(table, best, 1.0 - errors[best] / _mean_error(heights))


def _mesh(points: Points) -> Points:
    """A grid inside the hull of the points, and points along the hull itself, so that it has smooth edges."""
    hull = Delaunay(points)
    square = np.stack(np.meshgrid(*[np.linspace(0.0, 1.0, GRID)] * 2), axis=-1).reshape(-1, 2)
    ends = points[hull.convex_hull]
    along = np.linspace(0.0, 1.0, GRID // 2)[:, None, None]
    edges = ends[:, 0] * (1 - along) + ends[:, 1] * along
    # Bulged by a hair, since a triangulation drops points that lie on a straight edge.
    edges += BULGE * along * (1 - along) * (edges - points.mean(axis=0))
    return np.unique(np.concatenate([square[hull.find_simplex(square) >= 0], edges.reshape(-1, 2)]).round(9), axis=0)


def _merged(points: Points, values: NDArray[np.float64]) -> tuple[Points, NDArray[np.float64]]:
    places, which = np.unique(points, axis=0, return_inverse=True)
    which = which.ravel()
    return places, np.bincount(which, weights=values) / np.bincount(which)


def _spline(points: Points, values: NDArray[np.float64], smoothing: float) -> RBFInterpolator:
    return RBFInterpolator(points, values, kernel="thin_plate_spline", smoothing=smoothing)


def _left_out_error(points: Points, values: NDArray[np.float64], smoothing: float) -> float:
    """Squared error of predicting each point from the others; infinite where the others lie on a line."""
    error = 0.0
    for left_out in range(len(points)):
        others = np.arange(len(points)) != left_out
        try:
            # The spline itself accepts points on a line to rounding, and then answers nonsense.
            Delaunay(points[others])
            predicted = _spline(points[others], values[others], smoothing)(points[[left_out]])[0]
        except (QhullError, np.linalg.LinAlgError):
            return float("inf")
        error += float((predicted - values[left_out]) ** 2)
    return error


def _mean_error(values: NDArray[np.float64]) -> float:
    """The same of predicting each value by the mean of the others, and never 0."""
    n = len(values)
    return max(float((((values - values.mean()) * n / (n - 1)) ** 2).sum()), float(np.finfo(float).tiny))
