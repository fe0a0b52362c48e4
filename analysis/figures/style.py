"""The look of every figure: one style file, and a colour, marker and line style that an arm keeps in a report."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib.style

from analysis.records.study import Study

STYLE_FILE = Path(__file__).with_name("paper.mplstyle")
LineStyle = Literal["-"] | tuple[float, tuple[float, ...]]
WIDTHS = {"double": 7.2, "single": 3.3}  # inches: a page, or two columns of a paper; one column of it
PAGE_WIDTH = ContextVar("PAGE_WIDTH", default=WIDTHS["double"])
INK, SOFT, NEGATIVE = "#333333", "#777777", "#888888"
# The colours of Okabe and Ito (2008), which every common colour blindness keeps apart. The losses have theirs for good.
LOSSES = {"grpo": "#0072B2", "dapo": "#E69F00", "fipo": "#009E73"}
# Where they do not suffice, five of Tol's muted ones follow.
TOL = "#332288", "#44AA99", "#882255", "#999933", "#AA4499"
COLORS = ("#CC79A7", "#D55E00", "#56B4E9", "#000000", "#8C6D1F", *TOL, *LOSSES.values())
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
LINES: tuple[LineStyle, ...] = ("-", (0, (4, 1.2)), (0, (6, 1, 1.5, 1)), (0, (2.2, 1)), (0, (1, 1)))


@dataclass(frozen=True)
class ArmStyle:
    """How one arm is named and drawn. role: what it is planted for, as the study says; empty for what is compared."""

    label: str
    color: str
    marker: str
    linestyle: LineStyle
    role: str = ""

    @property
    def background(self) -> bool:
        """Whether it is a negative control, which sets the scale of nothing but its own axes."""
        return self.role == "negative"


Styles = dict[str, ArmStyle]
Look = dict[str, Any]  # keywords of a line or a text


def arm_styles(study: Study) -> Styles:
    """A style for each arm of the study: no two arms that share a block share a colour while there are enough."""
    styles = Styles()
    groups = [block.arms for block in study.blocks.values()]
    for place, arm in enumerate(dict.fromkeys(arm for arms in groups for arm in arms)):
        beside = {styles[other].color for arms in groups if arm in arms for other in arms if other in styles}
        role = study.role(arm).role or ""
        marker, line = MARKERS[place % len(MARKERS)], LINES[place % len(LINES)]
        if role == "negative":
            color = NEGATIVE
        else:
            free = [one for one in COLORS if one not in beside and one not in LOSSES.values()]
            left = free or [one for one in COLORS if one not in beside]
            alike = {one.color for one in styles.values() if (one.marker, one.linestyle) == (marker, line)}
            left = left or sorted(
                (one for one in COLORS if one not in alike), key=[one.color for one in styles.values()].count
            )
            color = LOSSES.get(arm) or left[0]
        styles[arm] = ArmStyle(study.label(arm), color, marker, line, role)
    return styles


def loss_styles(losses: Mapping[str, str]) -> Styles:
    """The style of each loss of a search. losses: what figures call each."""
    others = [color for color in COLORS if color not in LOSSES.values()]
    colors = dict(zip([loss for loss in losses if loss not in LOSSES], cycle(others), strict=False)) | LOSSES
    looks = zip(losses, cycle(MARKERS), cycle(LINES), strict=False)
    return {loss: ArmStyle(losses[loss], colors[loss], marker, line) for loss, marker, line in looks}


@contextmanager
def page_width(name: str) -> Iterator[None]:
    """Draw figures as wide as the one of WIDTHS."""
    before = PAGE_WIDTH.set(WIDTHS[name])
    try:
        yield
    finally:
        PAGE_WIDTH.reset(before)


@contextmanager
def paper() -> Iterator[None]:
    """The style file over matplotlib's own defaults, so that a user's matplotlibrc changes no byte of a figure."""
    with matplotlib.style.context(["default", str(STYLE_FILE)]):
        yield
