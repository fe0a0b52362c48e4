"""Search spaces: which settings are searched, in which ranges. TOML in the flags' names, checked before anything runs.

[parameters]
lr = { log = [5e-5, 2e-3] }               any value between, drawn in the logarithm
epsilon = { step = [0.1, 0.3, 0.05] }     low, high, step
averaging = { choice = ["token_mean", "sequence_mean"] }
delta = { fixed = 10.0 }                  not searched, but set
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from harness import UsageError, command, is_anothers, parsed, section_of
from sweeps.study.arms import load_toml

SPACES = Path(__file__).parents[1] / "spaces"
NOT_SEARCHED = ("loss_type", "control", "task")
FIXED_SECTIONS = ("run", "model", "evaluation")  # what decides whether two trials can be compared
MOST_CORNERS = 64
EXPECTED = {
    "fixed": "one fixed value",
    "choice": "two or more different choices",
    "log": "log = [low, high], 0 < low < high",
    "step": "step = [low, high, step], low < high, step > 0",
}
NAMES = {"log": ("low", "high"), "step": ("low", "high", "step"), "fixed": ("value",)}  # of the values, in study.json

Values = dict[str, Any]  # settings by name


@dataclass(frozen=True)
class Parameter:
    """One setting's range. `values`: low and high (log), low, high and step (step), the choices, or the one value."""

    kind: Literal["log", "step", "choice", "fixed"]
    values: tuple[Any, ...]

    def described(self) -> dict[str, Any]:
        """As study.json has it."""
        if self.kind == "choice":
            return {"kind": "choice", "values": list(self.values)}
        return {"kind": self.kind, **dict(zip(NAMES[self.kind], self.values, strict=True))}

    @property
    def count(self) -> int:
        """How many values there are to choose from, where they can be counted."""
        if self.kind != "step":
            return len(self.values)
        low, high, step = map(float, self.values)
        return 1 + math.floor((high - low) / step + 1e-9)

    def at(self, share: float) -> Any:
        """The value so far through the range, `share` in [0, 1)."""
        if self.kind == "log":
            low, high = map(math.log, self.values)
            return math.exp(low + share * (high - low))
        place = int(share * self.count)
        return round(self.values[0] + place * self.values[2], 12) if self.kind == "step" else self.values[place]

    def is_sound(self) -> bool:
        """Whether the values make a range of the kind."""
        values = self.values
        numbers = all(type(value) in (int, float) and math.isfinite(value) for value in values)
        return {
            "fixed": len(values) == 1,
            "choice": 1 < len(values) == len(set(map(repr, values))),
            "log": numbers and len(values) == 2 and 0 < values[0] < values[1],
            "step": numbers and len(values) == 3 and values[0] < values[1] and values[2] > 0,
        }[self.kind]


class Space(BaseModel):
    """The parameters of one loss's search."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = ""
    description: str = ""
    parameters: Mapping[str, Parameter] = {}

    @field_validator("parameters", mode="before")
    @classmethod
    def read(cls, tables: Any) -> Any:
        """The parameters of a file's tables. Raises ValueError where one says nothing that can be searched."""
        return {n: parameter(n, table) for n, table in tables.items()} if isinstance(tables, Mapping) else tables

    @property
    def searched(self) -> dict[str, Parameter]:
        """Those that vary."""
        return {name: one for name, one in self.parameters.items() if one.kind != "fixed"}

    @property
    def fixed(self) -> Values:
        """The values of those that do not."""
        return {name: one.values[0] for name, one in self.parameters.items() if one.kind == "fixed"}

    def corners(self) -> Iterator[Values]:
        """Settings in the middle of the ranges and at their ends: all combinations, or if too many each by itself."""
        yield self.fixed | {name: one.at(0.5) for name, one in self.searched.items()}
        ends = {name: one.values if one.kind == "choice" else one.values[:2] for name, one in self.searched.items()}
        if math.prod(map(len, ends.values())) <= MOST_CORNERS:
            for values in product(*ends.values()):
                yield self.fixed | dict(zip(ends, values, strict=True))
        else:
            first = self.fixed | {name: values[0] for name, values in ends.items()}
            yield from (first | {name: value} for name, values in ends.items() for value in values)


def load_space(name: str, loss: str) -> Space:
    """The loss's own space (`default`), a shipped one by name, or one from a TOML file. Raises UsageError.

    A loss that has none of its own is searched in what all losses share.
    """
    own = loss if (SPACES / f"{loss}.toml").is_file() else "shared"
    space = load_toml(Space, own if name == "default" else name, SPACES, "--space")
    if foreign := [setting for setting in space.searched if is_anothers(setting, loss)]:
        raise UsageError(f"--space {name}: {foreign[0]} does nothing under loss {loss!r}: search it apart")
    if not space.searched:
        raise UsageError(f"--space {name}: expected at least one parameter that is not fixed, got none")
    return space


def parameter(name: str, table: Any) -> Parameter:
    """One line of a space file. Raises ValueError where it says nothing that can be searched."""
    if name not in section_of():
        raise ValueError(f"expected settings' names, got {name!r}: see {command('harness', 'train', '--help')}")
    if name in NOT_SEARCHED or section_of()[name] in FIXED_SECTIONS:
        raise ValueError(f"{name} cannot be searched: trials that differ in it are not comparable")
    if not isinstance(table, Mapping) or len(table) != 1 or not table.keys() <= EXPECTED.keys():
        raise ValueError(f"{name}: expected one of {{ log|step|choice|fixed = ... }}, got {table}")
    kind, given = next(iter(table.items()))
    values = given if isinstance(given, list) else [given]
    one = Parameter(kind, tuple(parsed(value) if isinstance(value, str) else value for value in values))
    if not one.is_sound():
        raise ValueError(f"{name}: expected {EXPECTED[kind]}, got {values}")
    return one
