"""The arms of a comparison: named settings from a family file, over a preset and the user's flags."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness import (
    LOSS_TYPES,
    OWN_PREFIXES,
    Config,
    Difference,
    UsageError,
    differences,
    parsed,
    resolve,
    section_of,
)

FAMILIES = Path(__file__).parents[1] / "families"
SET_HERE = ("loss_type", "seed", "control", "output_dir")  # by comparisons and searches themselves
PER_RUN = ("seed", "output_dir", "start_from")
TASK = ("task", "task_settings", "reward")  # arms that differ in these cannot be compared
ROLES = ("positive", "negative", "identical", "repeat", "placebo")
ABOUT = ("label", "role", "against")  # what a family says of an arm besides its settings


ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # it becomes part of file names


class Family(BaseModel):
    """Which arms exist, and in which settings they may differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    allowed: frozenset[str]
    confounds: bool = False  # whether other differences are admitted, as confounds
    claims: str = "fipo-paper"  # what a comparison of these arms is to decide, where no flag says it
    arms: Mapping[ArmName, Mapping[str, Any]]
    controls: Mapping[ArmName, Mapping[str, Any]] = {}

    def admits(self, field: str, values: Mapping[str, Any]) -> bool:
        """Whether arms may differ so. A loss's own fields make the loss; only planted controls set a control."""
        if field in ("control", "placebo"):
            return all(value in ("none", None) for name, value in values.items() if name not in self.controls)
        return field.startswith(OWN_PREFIXES) or field in self.allowed

    @property
    def tables(self) -> dict[str, Mapping[str, Any]]:
        """What the file says of each arm and control."""
        return {**self.arms, **self.controls}

    @model_validator(mode="after")
    def check_roles(self) -> "Family":
        """Refuse a role that nothing is known of, and an arm held against one that the family has not."""
        for name, table in self.tables.items():
            if table.get("role", "placebo") not in ROLES:
                raise ValueError(f"{name!r}: expected role to be one of {', '.join(ROLES)}, got {table['role']!r}")
            if table.get("against", name) not in self.tables:
                raise ValueError(f"{name!r}: expected against to name an arm of the family, got {table['against']!r}")
        return self

    def about(self, name: str) -> dict[str, Any]:
        """What study.json says of an arm besides its settings; an arm is held against the one that it is like."""
        table = self.tables.get(name, {})
        told = {field: table.get(field) for field in ABOUT}
        told["against"] = told["against"] or table.get("like")
        return {"like": table.get("like"), **told, "planted": name in self.controls}


@dataclass(frozen=True)
class Arm:
    """One arm with its seeds; `configs` has a complete Config for each."""

    name: str
    settings: Mapping[str, Any]
    configs: Mapping[int, Config]

    @property
    def any_config(self) -> Config:
        """The config of its first seed; the others differ in the seed alone."""
        return next(iter(self.configs.values()))


def differences_between(arms: Sequence[Arm], family: Family) -> list[Difference]:
    """Every setting in which the arms' resolved configs differ, those that the family admits first."""
    return differences({arm.name: arm.any_config for arm in arms}, family.admits, PER_RUN)


def check_differences(differences: Sequence[Difference], family: Family) -> None:
    """Raise UsageError on a difference that the family does not admit, unless it takes them as confounds."""
    refused = [difference for difference in differences if not difference.allowed]
    if other := next((difference for difference in differences if difference.field in TASK), None):
        values = ", ".join(f"{name} {value}" for name, value in other.values.items())
        raise UsageError(f"expected arms with the same --{other.field}, got {values}: compare losses on one task")
    if refused and not family.confounds:
        values = ", ".join(f"{name} {value}" for name, value in refused[0].values.items())
        raise UsageError(
            f"family {family.name!r}: arms may not differ in {refused[0].field} ({values}): give all arms one value, "
            "or compare with --family recipe, which reports it as a confound"
        )


def load_family(name: str) -> Family:
    """A shipped family (controlled, recipe), or one from a TOML file."""
    family = load_toml(Family, name, FAMILIES, "--family")
    for field in family.allowed:
        if field not in section_of():
            raise UsageError(f"--family {name}: allowed names unknown setting {field!r}")
    return family


Content = TypeVar("Content", bound=BaseModel)


def load_toml(model: type[Content], name: str, shipped: Path, flag: str) -> Content:
    """What a TOML file says, of the folder `shipped` by its name or the user's by its path. Raises UsageError."""
    path = shipped / f"{name}.toml"
    path = path if path.is_file() else Path(name)
    try:
        return model(**{"name": path.stem} | tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError:
        names = ", ".join(sorted(file.stem for file in shipped.glob("*.toml")))
        raise UsageError(f"{flag}: expected one of {names} or a TOML file, got {name!r}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{flag} {name}: expected TOML, got: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        words = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"]
        raise UsageError(f"{flag} {name}: {'.'.join(map(str, fault['loc'])) or 'file'}: {words}") from None


def arms_of(
    family: Family, names: Mapping[str, int], preset: str, flags: Mapping[str, Any], first_seed: int = 0
) -> list[Arm]:
    """The named arms (or controls), each with its number of seeds, with the user's flags applied to all.

    An arm may bring a preset of its own, which then stands in the place of `preset`.
    """
    arms = []
    for name, seeds in names.items():
        settings = settings_of(family, name)
        base = settings.pop("preset", None) or preset
        check_flags(family, name, settings, flags)
        numbers = range(first_seed, first_seed + seeds)
        configs = {seed: resolve({**flags, **settings, "seed": seed}, base) for seed in numbers}
        arms.append(Arm(name, settings, configs))
    return arms


def check_flags(family: Family, name: str, settings: Mapping[str, Any], flags: Mapping[str, Any]) -> None:
    """Raise UsageError on a flag that the command or the arm's own settings set."""
    for flag in flags:
        if flag in SET_HERE:
            instead = {"seed": "--seeds and --first_seed", "output_dir": "--study"}.get(flag, "--losses and --controls")
            raise UsageError(f"--{flag} is set by the command itself: use {instead}")
        if flag in settings:
            raise UsageError(
                f"--{flag} is set by arm {name!r} of family {family.name!r} ({settings[flag]}): "
                "drop the flag, or give a family file of your own with --family"
            )


def scaffold_settings(family: Family, name: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's own settings, over a scaffold that is given. Raises UsageError on its own preset, or a flag it sets."""
    settings = settings_of(family, name)
    if "preset" in settings:
        raise UsageError(f"--family {family.name}: expected arms without presets of their own, got one of {name!r}")
    check_flags(family, name, settings, flags)
    return settings


def settings_of(family: Family, name: str) -> dict[str, Any]:
    """An arm's own settings over those of the arm that it is `like`, and of the one that that is like."""
    tables, merged, seen = family.tables, dict[str, Any](), list[str]()
    following: Any = name
    while following is not None:
        if following in seen:
            raise UsageError(f"family {family.name!r}: arm {name!r} is like itself: {' -> '.join([*seen, following])}")
        seen.append(following)
        if following not in tables and following in LOSS_TYPES and "dapo" in tables:
            tables[following] = {"like": "dapo", "loss_type": following}  # one's own loss: DAPO's scaffold around it
        if following not in tables:
            raise UsageError(f"family {family.name!r}: expected arms among {', '.join(tables)}, got {following!r}")
        table = dict(tables[following])
        following = table.pop("like", None)
        for field in ABOUT:
            table.pop(field, None)
        merged = {**table, **merged}
    for key in merged:
        if key not in section_of() and key != "preset":
            raise UsageError(f"family {family.name!r}: arm {name!r} sets {key!r}, which is no setting's name")
    return {key: parsed(value) if isinstance(value, str) else value for key, value in merged.items()}
