"""The settings in which configs differ, and whether each difference is part of the comparison or a confound."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.base import spelled
from harness.config.loss import is_anothers
from harness.config.resolve import flatten, tree_of
from harness.config.schema import Config, section_of

Values = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """A setting that is not the same in all configs."""

    field: str
    values: Values  # by name of the config; also None if the config's loss has no such setting
    allowed: bool  # part of what is compared; otherwise a confound


def of_the_loss(field: str, _values: Values) -> bool:
    """Whether the setting is part of the loss: its formula, clips, weights, averaging and advantages."""
    return section_of()[field] == "loss"


def differences(
    configs: Mapping[str, Config],
    is_allowed: Callable[[str, Values], bool] = of_the_loss,
    ignored: tuple[str, ...] = ("output_dir",),
) -> list[Difference]:
    """The settings in which the named configs differ, allowed ones first."""
    flat = {name: effective(config) for name, config in configs.items()}
    found = []
    for field in section_of():
        values = {name: settings[field] for name, settings in flat.items()}
        if field not in ignored and len({repr(value) for value in values.values()}) > 1:
            found.append(Difference(field, values, is_allowed(field, values)))
    return sorted(found, key=lambda difference: not difference.allowed)


def effective(config: Config) -> Values:
    """All settings by flag; None for those that belong to another loss."""
    settings = flatten(tree_of(config))
    return {flag: None if is_anothers(flag, config.loss.loss_type) else value for flag, value in settings.items()}


def differences_text(configs: Mapping[str, Config]) -> Iterator[str]:
    """Lines of a table of the differences, and how many of them are confounds in a comparison of losses."""
    found = differences(configs)
    if not found:
        yield f"{' and '.join(configs)}: no setting differs"
        return
    rows = [["", *configs, ""]]
    for one in found:
        cells = [shown(one, name, config) for name, config in configs.items()]
        rows.append([f"--{one.field}", *cells, "the loss's own" if one.allowed else "CONFOUND"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    if confounds := sum(not one.allowed for one in found):
        yield f"{confounds} of {len(found)} differences are not the loss's: a gain may come from them."
        yield "The presets under controlled/ have one scaffold for every loss."
    else:
        yield f"All {len(found)} differences are the loss's own."


def shown(difference: Difference, name: str, config: Config) -> str:
    """The config's value, cut to the width of a column; "-" if its loss has no such setting."""
    text = "-" if is_anothers(difference.field, config.loss.loss_type) else spelled(difference.values[name])
    return text if len(text) <= 40 else f"{text[:37]}..."
