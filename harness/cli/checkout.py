"""The check that packages are this checkout's: their names are generic, and others may shadow them."""

import importlib.util
from pathlib import Path

from harness.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def check_checkout(*packages: str) -> None:
    """Raise UsageError if a package would be imported from elsewhere."""
    for package in packages:
        found = importlib.util.find_spec(package)
        origin = Path(found.origin).resolve() if found and found.origin else None
        if origin is None or ROOT not in origin.parents:
            raise UsageError(
                f"package {package!r}: expected this checkout's, {ROOT / package}, got {origin}: "
                "run from the checkout, or remove what shadows it from PYTHONPATH and the environment"
            )
