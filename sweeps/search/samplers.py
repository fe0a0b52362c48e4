"""How trials are chosen: samplers that learn from results, and designs that are drawn before anything runs.

Every argument of Optuna's samplers and pruners is given, since their defaults change between versions.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import qmc

from harness import UsageError
from sweeps.search.spaces import Space, Values

STARTUP_BY_DEFAULT = 10  # Optuna's own


@dataclass(frozen=True)
class Spec:
    """A sampler or pruner by name, with every argument."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def sampler_spec(name: str, trials: int) -> Spec:
    """The sampler for a search of so many trials. Its random numbers are keyed by loss and trial."""
    startup = STARTUP_BY_DEFAULT if trials >= 4 * STARTUP_BY_DEFAULT else max(4, trials // 4)
    tpe = {"n_ei_candidates": 24, "multivariate": True, "group": False, "constant_liar": True}
    samplers: dict[str, dict[str, Any]] = {
        "tpe": {"n_startup_trials": startup, **tpe},
        "gp": {"n_startup_trials": startup, "deterministic_objective": False},
        "qmc": {"type": "sobol", "scramble": True},
        "random": {},
    }
    return chosen("sampler", name, samplers)


def pruner_spec(name: str, eval_every: int) -> Spec:
    """The pruner; ASHA's resource is the training step of the first seed's evaluations."""
    asha = {"min_resource": eval_every, "reduction_factor": 2, "min_early_stopping_rate": 0, "bootstrap_count": 0}
    return chosen("pruner", name, {"none": {}, "asha": asha})


def chosen(flag: str, name: str, known: Mapping[str, Mapping[str, Any]]) -> Spec:
    """The one of that name. Raises UsageError where there is none."""
    if name not in known:
        raise UsageError(f"--{flag}: expected one of {', '.join(known)}, got {name!r}")
    return Spec(name, known[name])


def design(space: Space, sampler: str, count: int, key: tuple[int, str]) -> list[Values] | None:
    """The settings of `count` trials, or None for a sampler that learns from results.

    `key`: the search's seed and the loss. Any first n of a longer design are the shorter one.
    """
    if sampler not in ("qmc", "random"):
        return None
    dimensions, rng = len(space.searched), np.random.default_rng(seed_of(*key, sampler))
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
