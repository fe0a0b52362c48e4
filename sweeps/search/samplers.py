"""How trials are chosen: by TPE, which learns from results, or by a design that is drawn before anything runs."""

import hashlib
from typing import Any

from sweeps.search.spaces import Space, Values

STARTUP_BY_DEFAULT = 10  # Optuna's own


def sampler_of(name: str, trials: int, seed: int) -> dict[str, Any]:
    """How a search of so many trials chooses them, as study.json has it: {"name", "arguments", "seed"}.

    Every argument is there, since Optuna's defaults change between versions.
    """
    startup = STARTUP_BY_DEFAULT if trials >= 4 * STARTUP_BY_DEFAULT else max(4, trials // 4)
    arguments: dict[str, dict[str, Any]] = {
        "tpe": {
            "n_startup_trials": startup,
            "n_ei_candidates": 24,
            "multivariate": True,
            "group": False,
            "constant_liar": True,
        },
        "qmc": {"type": "sobol", "scramble": True},
        "random": {},
    }
    return {"name": name, "arguments": arguments[name], "seed": seed}


def design(space: Space, sampler: str, count: int, seed: int) -> list[Values] | None:
    """The settings of `count` trials, or None for a sampler that learns from results.

    Losses with the same space get the same trials. Any first n of a longer design are the shorter one.
    """
    if sampler not in ("qmc", "random"):
        return None
    import numpy as np
    from scipy.stats import qmc

    ranges = repr({name: one.described() for name, one in space.searched.items()})
    dimensions, rng = len(space.searched), np.random.default_rng(seed_of(seed, ranges, sampler))
    if sampler == "qmc":
        exponent = max(0, (count - 1).bit_length())  # Sobol points are balanced in powers of two
        shares = qmc.Sobol(dimensions, scramble=True, rng=rng).random_base2(exponent)[:count]
    else:
        shares = rng.random((count, dimensions))
    return [
        {name: one.at(float(share)) for (name, one), share in zip(space.searched.items(), row, strict=True)}
        for row in shares
    ]


def seed_of(*key: int | str) -> int:
    """A seed for what the key names."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "little")
