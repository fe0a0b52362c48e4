"""Which sampler a search uses, with every one of its arguments: Optuna's defaults change between versions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import UsageError
from sweeps.search.designs import DESIGNED

SAMPLERS = ("tpe", "gp", *DESIGNED)
STARTUP_BY_DEFAULT = 10  # Optuna's own
PRUNERS = ("none", "asha")


@dataclass(frozen=True)
class Spec:
    """A sampler or pruner by name, with every argument."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def sampler_spec(name: str, trials: int) -> Spec:
    """The sampler for a search of so many trials. Its random numbers are keyed by loss and trial."""
    startup = STARTUP_BY_DEFAULT if trials >= 4 * STARTUP_BY_DEFAULT else max(4, trials // 4)
    arguments: dict[str, dict[str, Any]] = {
        "tpe": {
            "n_startup_trials": startup,
            "n_ei_candidates": 24,
            "multivariate": True,
            "group": False,
            "constant_liar": True,
        },
        "gp": {"n_startup_trials": startup, "deterministic_objective": False},
        "qmc": {"type": "sobol", "scramble": True},
        "random": {},
        "grid": {},
    }
    if name not in arguments:
        raise UsageError(f"--sampler: expected one of {', '.join(SAMPLERS)}, got {name!r}")
    return Spec(name, arguments[name])


def pruner_spec(name: str, eval_every: int) -> Spec:
    """The pruner; ASHA's resource is the training step of the first seed's evaluations."""
    arguments: dict[str, dict[str, Any]] = {
        "none": {},
        "asha": {
            "min_resource": eval_every,
            "reduction_factor": 2,
            "min_early_stopping_rate": 0,
            "bootstrap_count": 0,
        },
    }
    if name not in arguments:
        raise UsageError(f"--pruner: expected one of {', '.join(PRUNERS)}, got {name!r}")
    return Spec(name, arguments[name])
