"""When numbers agree. The tolerances of these tests have their names here and stand nowhere else."""

import numpy as np
from numpy.typing import ArrayLike

# Relative to the largest entry. `network`: float32 numbers that went through the model in batches of other shapes.
LEVELS = {"float64": 1e-9, "network": 1e-5}


def agree(ours: ArrayLike, theirs: ArrayLike, level: str) -> bool:
    """Whether two arrays have one shape and agree to the level."""
    found, expected = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if found.shape != expected.shape:
        return False
    return bool((np.abs(found - expected) <= LEVELS[level] * np.abs(expected).max(initial=0.0)).all())
