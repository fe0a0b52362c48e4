"""Search spaces: which settings are searched, in which ranges. TOML in the flags' names, checked before anything runs.

[parameters]
lr = { log = [5e-5, 2e-3] }               any value between, drawn in the logarithm
epsilon = { step = [0.1, 0.3, 0.05] }     low, high, step
averaging = { choice = ["token_mean", "sequence_mean"] }
delta = { fixed = 10.0 }                  not searched, but set
"""

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from harness import UsageError, is_anothers, parsed, section_of

SPACES = Path(__file__).parents[1] / "spaces"
NOT_SEARCHED = ("loss_type", "control", "task")
FIXED_SECTIONS = ("run", "model", "evaluation")  # what decides whether two trials can be compared
MOST_STEPS = 10_000
KINDS = ("log", "step", "choice", "fixed")

Value = Any  # a setting: number, text, true or false, or None
Values = dict[str, Value]


@dataclass(frozen=True)
class Parameter:
    """One setting's range. `values`: low and high (log), low, high and step (step), the choices, or the one value."""

    kind: Literal["log", "step", "choice", "fixed"]
    values: tuple[Any, ...]

    def described(self) -> dict[str, Any]:
        """As study.json has it."""
        if self.kind == "choice":
            return {"kind": "choice", "values": list(self.values)}
        names = {"log": ("low", "high"), "step": ("low", "high", "step"), "fixed": ("value",)}[self.kind]
        return {"kind": self.kind, **dict(zip(names, self.values, strict=True))}

    @property
    def listed(self) -> tuple[Value, ...] | None:
        """All values, where they can be listed."""
        if self.kind in ("choice", "fixed"):
            return self.values
        if self.kind == "log":
            return None
        low, high, step = self.values
        count = math.floor((high - low) / step + 1e-9) + 1
        return tuple(round(low + place * step, 12) for place in range(count))

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values at the ends of the range: all, where they are choices."""
        return self.values if self.kind in ("choice", "fixed") else self.values[:2]

    def at(self, share: float) -> Value:
        """The value so far through the range, `share` in [0, 1)."""
        if self.listed is not None:
            return self.listed[int(share * len(self.listed))]
        low, high = (math.log(bound) for bound in self.values)
        return math.exp(low + share * (high - low))


@dataclass(frozen=True)
class Space:
    """The parameters of one loss's search, and the design that the file asks for."""

    name: str
    parameters: Mapping[str, Parameter]
    losses: tuple[str, ...] | None = None  # for which it is meant; None: any
    sampler: str | None = None
    seeds: int | None = None

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
        ends = {name: one.extremes for name, one in self.searched.items()}
        if math.prod(map(len, ends.values())) <= 64:
            for values in product(*ends.values()):
                yield self.fixed | dict(zip(ends, values, strict=True))
        else:
            first = self.fixed | {name: values[0] for name, values in ends.items()}
            yield from (first | {name: value} for name, values in ends.items() for value in values)


def load_space(name: str, loss: str) -> Space:
    """The loss's own space (`default`), a shipped one by name, or one from a TOML file. Raises UsageError.

    A loss that has none of its own is searched in what all losses share.
    """
    own = SPACES / f"{loss}.toml"
    default = own if own.is_file() else SPACES / "shared.toml"
    path = default if name == "default" else SPACES / f"{name}.toml"
    path = path if path.is_file() else Path(name)
    if not path.is_file():
        shipped = ", ".join(["default", *sorted(file.stem for file in SPACES.glob("*.toml"))])
        raise UsageError(f"--space: expected one of {shipped}, or a TOML file, got {name!r}")
    space = read_space(path)
    if space.losses is not None and loss not in space.losses:
        raise UsageError(f"--space {name}: it is meant for {', '.join(space.losses)}, got loss {loss!r}")
    for name in space.searched:
        if is_anothers(name, loss):
            raise UsageError(f"--space {path}: {name} does nothing under loss {loss!r}: search it apart")
    if not space.searched:
        raise UsageError(f"--space {name}: expected at least one parameter that is not fixed, got none")
    return space


def read_space(path: Path, within: tuple[Path, ...] = ()) -> Space:
    """A space file with those that it includes beneath it; `within`: the files that include this one."""
    if path in within:
        raise fault(path, "include: a space cannot include itself")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise fault(path, f"expected TOML with parameters, got: {error}") from None
    unknown = sorted(set(content) - {"description", "include", "losses", "sampler", "seeds", "parameters"})
    if unknown:
        raise fault(path, f"expected description, include, losses, sampler, seeds and parameters, got {unknown[0]!r}")
    included = (
        {} if "include" not in content else read_space(beside(path, content["include"]), (*within, path)).parameters
    )
    tables = content.get("parameters", {})
    if not isinstance(tables, Mapping):
        raise fault(path, f"expected a table of parameters, got {tables!r}")
    own = {name: parameter(path, name, table) for name, table in tables.items()}
    losses, seeds = content.get("losses"), content.get("seeds")
    if losses is not None and not (isinstance(losses, list) and all(isinstance(one, str) for one in losses)):
        raise fault(path, f"expected losses as a list of names, got {losses!r}")
    if seeds is not None and not (type(seeds) is int and seeds > 0):
        raise fault(path, f"expected seeds as a whole number above 0, got {seeds!r}")
    if not isinstance(content.get("sampler", ""), str):
        raise fault(path, f"expected sampler as a name, got {content['sampler']!r}")
    return Space(
        path.stem,
        {**included, **own},
        tuple(losses) if losses else None,
        content.get("sampler"),
        seeds,
    )


def beside(path: Path, name: object) -> Path:
    """The file that a space includes: shipped, or in the same folder."""
    found = [folder / f"{name}.toml" for folder in (path.parent, SPACES)]
    for candidate in found:
        if candidate.is_file() and candidate != path:
            return candidate
    raise fault(path, f"include: expected the name of a space, got {name!r}")


def parameter(path: Path, name: str, table: object) -> Parameter:
    """One line of a space file, checked."""
    if name not in section_of():
        raise fault(path, f"expected settings' names, got {name!r}: see python -m harness train --help")
    if name in NOT_SEARCHED or section_of()[name] in FIXED_SECTIONS:
        raise fault(path, f"{name} cannot be searched: trials that differ in it are not comparable")
    if not isinstance(table, Mapping) or len(table) != 1 or next(iter(table)) not in KINDS:
        raise fault(path, f"{name}: expected one of {{ log|step|choice|fixed = ... }}, got {table!r}")
    kind, given = next(iter(table.items()))
    values = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    values = tuple(parsed(value) if isinstance(value, str) else value for value in values)
    if kind in ("log", "step"):
        check_range(path, name, kind, values)
    if kind == "choice" and (len(values) < 2 or len({repr(value) for value in values}) < len(values)):
        raise fault(path, f"{name}: expected two or more different choices, got {list(values)}")
    if kind == "fixed" and len(values) != 1:
        raise fault(path, f"{name}: expected one fixed value, got {list(values)}")
    return Parameter(kind, values)


def check_range(path: Path, name: str, kind: str, values: tuple[Any, ...]) -> None:
    """Raise UsageError unless the numbers make a range."""
    count = {"log": 2, "step": 3}[kind]
    numbers = len(values) == count and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    if numbers and kind == "step" and values[2] > 0 and (values[1] - values[0]) / values[2] > MOST_STEPS:
        raise fault(path, f"{name}: expected at most {MOST_STEPS} steps, got {list(values)}: use log, or larger steps")
    if not numbers or not values[0] < values[1] or (values[0] if kind == "log" else values[2]) <= 0:
        expected = "[low, high], 0 < low < high" if kind == "log" else "[low, high, step], low < high, step > 0"
        raise fault(path, f"{name}: expected {kind} = {expected}, got {list(values)}")


def fault(path: Path, words: str) -> UsageError:
    """What is wrong with a space file."""
    return UsageError(f"--space {path}: {words}")
