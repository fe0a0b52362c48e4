"""What two settings differ in, each difference marked as the loss's own or as a confound of comparing the losses."""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.cli.parser import shown
from harness.config.resolve import flatten, tree_of
from harness.config.schema import Config, is_anothers, section_of

NO_CONFOUND = ("output_dir",)  # says nothing of what is computed


@dataclass(frozen=True)
class Difference:
    """A setting with both its values."""

    flag: str
    ours: object
    theirs: object

    @property
    def is_the_losses(self) -> bool:
        """Whether it belongs to the loss: its formula, clips, weights and average."""
        return section_of()[self.flag] == "loss"


def differences(ours: Config, theirs: Config) -> list[Difference]:
    """The settings that differ, the loss's own first; "-" is that of a loss that has no such setting."""
    own, other = flatten(tree_of(ours)), flatten(tree_of(theirs))
    sides = [(read(own, flag, ours), read(other, flag, theirs)) for flag in own]
    found = [
        Difference(flag, *pair)
        for flag, pair in zip(own, sides, strict=True)
        if pair[0] != pair[1] and flag not in NO_CONFOUND
    ]
    return sorted(found, key=lambda one: not one.is_the_losses)


def settings_that_differ(ours: Config, theirs: Config) -> dict[str, tuple[object, object]]:
    """By flag, both values of each setting in which two configs differ."""
    return {one.flag: (one.ours, one.theirs) for one in differences(ours, theirs)}


def read(settings: dict[str, object], flag: str, config: Config) -> object:
    """The value of the setting, or "-" where it is another loss's."""
    return "-" if is_anothers(flag, config.loss.loss_type) else settings[flag]


def against_text(names: tuple[str, str], ours: Config, theirs: Config) -> Iterator[str]:
    """A line per difference, in columns."""
    found = differences(ours, theirs)
    if not found:
        yield f"{names[0]} and {names[1]}: no setting differs"
        return
    rows = [("", *names, "")]
    rows += [
        (f"--{one.flag}", value(one.ours), value(one.theirs), "the loss's own" if one.is_the_losses else "CONFOUND")
        for one in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    confounds = [one.flag for one in found if not one.is_the_losses]
    yield ""
    if confounds:
        yield f"{len(confounds)} of {len(found)} differences are not the loss's: a gain may come from them."
        yield "The presets under controlled/ have one scaffold for every loss."
    else:
        yield f"All {len(found)} differences are the loss's own."


def value(setting: object) -> str:
    """A value as a flag spells it, short enough for a column."""
    text = shown(setting)
    return text if len(text) <= 40 else f"{text[:37]}..."
