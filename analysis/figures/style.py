"""The look of every figure: one style file, and a colour, marker and line style that an arm keeps everywhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib.style

STYLE_FILE = Path(__file__).with_name("paper.mplstyle")
LineStyle = Literal["-"] | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class ArmStyle:
    """How one arm is named and drawn."""

    label: str
    color: str
    marker: str
    linestyle: LineStyle


# Colours of Okabe and Ito (2008), told apart with every common colour blindness; grey for the arm that must not learn.
KNOWN_ARMS = {
    "grpo": ArmStyle("GRPO", "#0072B2", "o", "-"),
    "dapo": ArmStyle("DAPO", "#E69F00", "s", (0, (4, 1.2))),
    "fipo": ArmStyle("FIPO", "#009E73", "^", (0, (6, 1, 1.5, 1))),
    "blame": ArmStyle("blame (positive control)", "#CC79A7", "D", (0, (2.2, 1))),
    "random_reward": ArmStyle("random reward (negative control)", "#666666", "v", (0, (1, 1))),
}
# What a study of blocks has besides: arms that stand in one figure are told apart, not every one from every other.
STUDY_ARMS = {
    "damp": ArmStyle("blame, spread out", "#D55E00", "P", (0, (4, 1.2))),
    "random_blame": ArmStyle("blame on a random step", "#56B4E9", "X", (0, (1, 1))),
    "dapo_again": ArmStyle("DAPO again, other seeds", "#B8860B", "s", (0, (1, 1))),
    "fipo_wide": ArmStyle("FIPO, wide weights", "#D55E00", "D", (0, (2.2, 1))),
    "wide_sign_mean": ArmStyle("wide, mean per sign", "#000000", "P", (0, (1, 1))),
    "wide_shuffle_within": ArmStyle("wide, shuffled in response", "#56B4E9", "<", (0, (4, 1.2))),
    "wide_shuffle_batch": ArmStyle("wide, shuffled in batch", "#666666", "X", (0, (1, 1))),
}
NAMED_ARMS = KNOWN_ARMS | STUDY_ARMS
OTHER_COLORS = ("#D55E00", "#56B4E9", "#000000")
OTHER_MARKERS = ("P", "*", "h", "X")
OTHER_LINESTYLES: tuple[LineStyle, ...] = ("-", (0, (4, 1.2)), (0, (1, 1)))


def arm_label(arm: str) -> str:
    """The arm's name as a reader meets it in a sentence, without its role."""
    return arm_styles([arm])[arm].label.split(" (")[0]


def arm_styles(arms: Sequence[str]) -> dict[str, ArmStyle]:
    """A style for each arm: the named ones always the same, others by their place among those without a name here."""
    unknown = [arm for arm in arms if arm not in NAMED_ARMS]
    taken = {NAMED_ARMS[arm].color for arm in arms if arm in NAMED_ARMS}
    free = tuple(color for color in OTHER_COLORS if color not in taken) or OTHER_COLORS
    return {arm: NAMED_ARMS.get(arm) or _other(arm, unknown.index(arm), free) for arm in arms}


def _other(arm: str, place: int, colors: Sequence[str]) -> ArmStyle:
    markers, linestyles = OTHER_MARKERS, OTHER_LINESTYLES
    linestyle = linestyles[(place // len(colors)) % len(linestyles)]
    return ArmStyle(arm, colors[place % len(colors)], markers[place % len(markers)], linestyle)


@contextmanager
def paper() -> Iterator[None]:
    """The style file over matplotlib's own defaults, so that a user's matplotlibrc changes no byte of a figure."""
    with matplotlib.style.context(["default", str(STYLE_FILE)]):
        yield
