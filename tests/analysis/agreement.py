"""The one tolerance of these tests: two ways to compute a number in float64."""

import numpy as np
from numpy.typing import ArrayLike


def agree(got: ArrayLike, wanted: ArrayLike) -> bool:
    return bool(np.allclose(got, wanted, rtol=1e-7, atol=1e-9, equal_nan=True))
