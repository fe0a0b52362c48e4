"""Designs: lists of settings that are drawn before anything runs, so that nothing that happens can change the list."""

import hashlib
from itertools import product
from typing import Any

import numpy as np
from scipy.stats import qmc

from harness import UsageError
from sweeps.search.spaces import Parameter, Space, Values

DESIGNED = ("grid", "qmc", "random")
LARGEST_GRID = 10_000


def design(space: Space, sampler: str, count: int, key: tuple[int, str]) -> list[Values] | None:
    """The settings of `count` trials (of all of them for a grid), or None for a sampler that learns from results.

    `key`: the search's seed and the loss. Any first n of a longer random or qmc design are the shorter one.
    """
    if sampler not in DESIGNED:
        return None
    if sampler == "grid":
        return grid(space)
    dimensions, seed = len(space.searched), seed_of(*key, sampler)
    if sampler == "qmc":
        exponent = max(0, (count - 1).bit_length())  # Sobol points are balanced in powers of two
        shares = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed)).random_base2(exponent)[:count]
    else:
        shares = np.random.default_rng(seed).random((count, dimensions))
    return [at(space.searched, row) for row in shares]


def grid(space: Space) -> list[Values]:
    """Every combination, the first parameter slowest."""
    lists = {}
    for name, one in space.searched.items():
        if one.listed is None:
            raise UsageError(f"--sampler grid: expected choices or steps, got a log range for {name}: list its values")
        lists[name] = one.listed
    count = int(np.prod([len(values) for values in lists.values()]))
    if count > LARGEST_GRID:
        raise UsageError(f"--sampler grid: expected at most {LARGEST_GRID} combinations, got {count}: use fewer values")
    return [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]


def at(parameters: dict[str, Parameter], shares: np.ndarray[Any, Any]) -> Values:
    """The settings at a point of the unit cube."""
    return {name: one.at(float(share)) for (name, one), share in zip(parameters.items(), shares, strict=True)}


def seed_of(*key: int | str) -> int:
    """A seed for what the key names."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "little")
