"""How much of a fault test is done: a short part in `make test`, all of it in `make test-faults`."""

import os

from hypothesis import HealthCheck, settings

THOROUGH = os.environ.get("THOROUGH") == "1"


def amount(short: int, thorough: int) -> int:
    """The number of cases for this session."""
    return thorough if THOROUGH else short


def spread(cases: int, short: int) -> list[int]:
    """Numbers of that many cases: all of them, or a few from the first to the last."""
    return list(range(cases)) if THOROUGH else [index * (cases - 1) // (short - 1) for index in range(short)]


def fuzzed(short: int, thorough: int) -> settings:
    """So many examples of hypothesis; the short part has the same ones in every run."""
    return settings(
        max_examples=amount(short, thorough),
        derandomize=not THOROUGH,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
