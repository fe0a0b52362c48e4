"""What differs between the arms of a comparison, and whether it may."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness import OWN_PREFIXES, UsageError, flatten, is_anothers, tree_of
from sweeps.arms import Arm, Family

PER_RUN = ("seed", "output_dir")


@dataclass(frozen=True)
class Difference:
    """A setting that not all arms share."""

    field: str
    values: dict[str, Any]  # by arm; None also where the arm's loss has no such setting
    allowed: bool


def differences_between(arms: Sequence[Arm], family: Family) -> list[Difference]:
    """Every setting in which the resolved configs differ, the loss's own first."""
    flat = {arm.name: flatten(tree_of(arm.any_config)) for arm in arms}
    found = []
    for field in next(iter(flat.values())):
        values = {
            name: None if is_anothers(field, settings["loss_type"]) else settings[field]
            for name, settings in flat.items()
        }
        if field not in PER_RUN and len({repr(value) for value in values.values()}) > 1:
            found.append(Difference(field, values, is_allowed(field, values, family)))
    return sorted(found, key=lambda difference: not difference.allowed)


def is_allowed(field: str, values: dict[str, Any], family: Family) -> bool:
    """Whether the family admits the difference. A loss's own fields make the loss; planted controls set a control."""
    if field in ("control", "fipo_placebo"):
        return all(value in ("none", None) for name, value in values.items() if name not in family.controls)
    if field.startswith(OWN_PREFIXES):
        return True
    return field in family.allowed


def check_differences(differences: Sequence[Difference], family: Family) -> None:
    """Raise UsageError on a difference that the family does not admit, unless it takes them as confounds."""
    refused = [difference for difference in differences if not difference.allowed]
    if refused and not family.confounds:
        values = ", ".join(f"{name} {value}" for name, value in refused[0].values.items())
        raise UsageError(
            f"family {family.name!r}: arms may not differ in {refused[0].field} ({values}): give all arms one value, "
            "or compare with --family recipe, which reports it as a confound"
        )
