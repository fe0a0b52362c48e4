"""Search spaces: which settings are searched, in which ranges. TOML in the flags' names, checked before anything runs.

[parameters]
lr = { log = [5e-5, 2e-3] }               any value between, drawn in the logarithm
epsilon = { step = [0.1, 0.3, 0.05] }     low, high, step
averaging = { choice = ["token_mean", "sequence_mean"] }
delta = { fixed = 10.0 }                  not searched, but set
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from harness import UsageError, command, is_anothers, parsed, section_of
from sweeps.study.blocks import DESIGNS

SPACES = Path(__file__).parents[1] / "spaces"
NOT_SEARCHED = ("loss_type", "control", "task")
FIXED_SECTIONS = ("run", "model", "evaluation")  # what decides whether two trials can be compared
MOST_STEPS = 10_000

EXPECTED = {
    "fixed": "one fixed value",
    "choice": "two or more different choices",
    "log": "log = [low, high], 0 < low < high",
    "step": "step = [low, high, step], low < high, step > 0",
}

Kind = Literal["log", "step", "choice", "fixed"]
Values = dict[str, Any]  # settings by name


@dataclass(frozen=True)
class Parameter:
    """One setting's range. `values`: low and high (log), low, high and step (step), the choices, or the one value."""

    kind: Kind
    values: tuple[Any, ...]

    def described(self) -> dict[str, Any]:
        """As study.json has it."""
        if self.kind == "choice":
            return {"kind": "choice", "values": list(self.values)}
        names = {"log": ("low", "high"), "step": ("low", "high", "step"), "fixed": ("value",)}[self.kind]
        return {"kind": self.kind, **dict(zip(names, self.values, strict=True))}

    @property
    def listed(self) -> tuple[Any, ...] | None:
        """All values, where they can be listed."""
        if self.kind != "step":
            return None if self.kind == "log" else self.values
        low, high, step = self.values
        count = math.floor((high - low) / step + 1e-9) + 1
        return tuple(round(low + place * step, 12) for place in range(count))

    def at(self, share: float) -> Any:
        """The value so far through the range, `share` in [0, 1)."""
        if self.listed is not None:
            return self.listed[int(share * len(self.listed))]
        low, high = (math.log(bound) for bound in self.values)
        return math.exp(low + share * (high - low))

    def check(self) -> None:
        """Raise ValueError unless the values make a range of the kind."""
        values, got = self.values, f"got {list(self.values)}"
        numbers = all(type(value) in (int, float) and math.isfinite(value) for value in values)
        is_sound = {
            "fixed": len(values) == 1,
            "choice": 1 < len(values) == len(set(map(repr, values))),
            "log": numbers and len(values) == 2 and 0 < values[0] < values[1],
            "step": numbers and len(values) == 3 and values[0] < values[1] and values[2] > 0,
        }
        if not is_sound[self.kind]:
            raise ValueError(f"expected {EXPECTED[self.kind]}, {got}")
        if self.kind == "step" and (values[1] - values[0]) / values[2] > MOST_STEPS:
            raise ValueError(f"expected at most {MOST_STEPS} steps, {got}: use log, or larger steps")


@dataclass(frozen=True)
class Space:
    """The parameters of one loss's search."""

    parameters: Mapping[str, Parameter]

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
        if math.prod(map(len, ends.values())) <= 64:
            for values in product(*ends.values()):
                yield self.fixed | dict(zip(ends, values, strict=True))
        else:
            first = self.fixed | {name: values[0] for name, values in ends.items()}
            yield from (first | {name: value} for name, values in ends.items() for value in values)


class SpaceFile(BaseModel):
    """What a space's TOML file may hold."""

    model_config = ConfigDict(extra="forbid", strict=True)

    description: str = ""
    parameters: dict[str, dict[Kind, Any]] = {}


def load_space(name: str, loss: str) -> Space:
    """The loss's own space (`default`), a shipped one by name, or one from a TOML file. Raises UsageError.

    A loss that has none of its own is searched in what all losses share.
    """
    if (DESIGNS / f"{name}.toml").is_file():
        raise UsageError(
            f"--space: expected ranges to search, got {name!r}, whose values are all compared: "
            f"use {command('sweeps', 'study', '--design', name)}"
        )
    own = SPACES / f"{loss}.toml"
    default = own if own.is_file() else SPACES / "shared.toml"
    path = default if name == "default" else SPACES / f"{name}.toml"
    path = path if path.is_file() else Path(name)
    if not path.is_file():
        shipped = ", ".join(["default", *sorted(file.stem for file in SPACES.glob("*.toml"))])
        raise UsageError(f"--space: expected one of {shipped}, or a TOML file, got {name!r}")
    space = read_space(path)
    if foreign := [setting for setting in space.searched if is_anothers(setting, loss)]:
        raise UsageError(f"--space {path}: {foreign[0]} does nothing under loss {loss!r}: search it apart")
    if not space.searched:
        raise UsageError(f"--space {name}: expected at least one parameter that is not fixed, got none")
    return space


def read_space(path: Path) -> Space:
    """The space in a file. Raises UsageError."""
    try:
        content = SpaceFile(**tomllib.loads(path.read_text(encoding="utf-8")))
        return Space({name: parameter(name, table) for name, table in content.parameters.items()})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"--space {path}: {place}: {first['msg']}, got {first['input']!r}") from None
    except (ValueError, OSError) as error:  # tomllib's and Unicode's are ValueErrors
        raise UsageError(f"--space {path}: {error}") from None


def parameter(name: str, table: Mapping[Kind, Any]) -> Parameter:
    """One line of a space file. Raises ValueError where it says nothing that can be searched."""
    if name not in section_of():
        raise ValueError(f"expected settings' names, got {name!r}: see {command('harness', 'train', '--help')}")
    if name in NOT_SEARCHED or section_of()[name] in FIXED_SECTIONS:
        raise ValueError(f"{name} cannot be searched: trials that differ in it are not comparable")
    if len(table) != 1:
        raise ValueError(f"{name}: expected one of {{ log|step|choice|fixed = ... }}, got {dict(table)}")
    kind, given = next(iter(table.items()))
    values = tuple(given) if isinstance(given, list) else (given,)
    one = Parameter(kind, tuple(parsed(value) if isinstance(value, str) else value for value in values))
    try:
        one.check()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return one
