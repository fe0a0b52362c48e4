"""What a checker says of a response."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["right", "wrong", "unchecked"]


@dataclass(frozen=True)
class Grade:
    """One response's grade. An answer that nobody could check is neither right nor wrong."""

    outcome: Outcome
    answer: str | None = None  # as it stands in the response
    why: str | None = None  # the reason of wrong or unchecked, where there is one: "no answer", "time"
