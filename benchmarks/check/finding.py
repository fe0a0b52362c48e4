"""What a check finds: a figure, or whether something is as it must be."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """`is_right` is None for a figure, of which nothing is expected."""

    what: str
    value: Any
    is_right: bool | None = None

    def __str__(self) -> str:
        value = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return f"{'WRONG: ' if self.is_right is False else ''}{self.what}: {value}"


def at_most(what: str, value: float, limit: float) -> Finding:
    """A number that must not exceed the limit; NaN does."""
    return Finding(f"{what} (at most {limit:g})", value, value <= limit)
