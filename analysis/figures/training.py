"""The course of training: quantities over steps, tokens or time, and paired differences."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.ticker import EngFormatter

from analysis.figures.canvas import (
    MANY_ARMS,
    Axes,
    Drawing,
    arm_handles,
    draw_curves,
    draw_limit,
    fitting,
    fold,
    grid,
    handle,
    in_first_column,
    legend,
    whole_steps,
)
from analysis.figures.figure import Figure, baseline_of, compared_blocks, length_limit, of_block, seed_words
from analysis.figures.style import INK, Styles, arm_styles, paper
from analysis.formatting import listed
from analysis.records.curves import bands, mean_curves, seed_curves
from analysis.records.study import Study
from analysis.verdict.findings import Findings

ACCURACY, WEIGHT = "rollout/accuracy", "loss/influence_weight"
EVALUATION, DIFFERENCE = "evaluation/accuracy", "difference"
REWARDS = "reward/*"  # stands for every reward of the user's own
NEGATIVE = "negative controls"  # stands for the training accuracy of these alone
LENGTH = "rollout/response_tokens_"
COLUMNS, ROW_HEIGHT, MOST_NAMES = 3, 2.05, 6
DATA = tomllib.loads(Path(__file__).with_name("courses.toml").read_text(encoding="utf-8"))
QUANTITIES = {name: (str(title), str(unit)) for name, (title, unit) in DATA["quantities"].items()}
AXIS_LABELS = {
    "steps": "training step",
    "prompts": "prompts",
    "generated_tokens": "generated tokens, discarded too",
    "seconds": "seconds",
    "flops": "FLOPs (estimated)",
}


@dataclass(frozen=True)
class Course:
    """A figure of several quantities, over `axis` whatever the others are drawn over; None as they are.

    of_blocks: whether the report of a study of several blocks shows it. differ: of a figure of the FIPO paper, the
    setting in which the arms of FIPO that it compares differ; None where it compares all arms.
    """

    name: str
    title: str
    quantities: Sequence[str]
    caption: str = ""
    details: str = ""
    axis: str | None = None
    of_blocks: bool = True
    differ: str | None = None


COURSES, PAPER = (tuple(Course(**one) for one in DATA[kind]) for kind in ("course", "paper"))


@dataclass(frozen=True)
class Look:
    """How a course is drawn: the arms' styles, the x axis, what a thin line is one of, and the limit of length."""

    styles: Styles
    axis: str
    unit: str
    limit: float | None

    @property
    def lines(self) -> str:
        """What the lines are, for a caption."""
        many = (
            f"; of more than {MANY_ARMS} arms on the same axes the means alone" if len(self.styles) > MANY_ARMS else ""
        )
        return f"Thin lines: {self.unit}s; thick line and band: their mean and 95 % t interval{many}"


@dataclass(frozen=True)
class Panel:
    """Axes of a course: a quantity of some arms, under a title."""

    quantity: str
    arms: Sequence[str]
    title: str


def look_of(study: Study, styles: Styles, axis: str) -> Look:
    """The look of the study's courses; styles: of all arms of the report."""
    return Look({arm.name: styles[arm.name] for arm in study.arms_with_runs}, axis, study.units[0], length_limit(study))


def course_figures(found: Findings, course: Course) -> Iterator[Figure]:
    """The figure of each block that varies nothing."""
    styles = arm_styles(found.study)
    for ending, study in compared_blocks(found):
        look, quantities = look_of(study, styles, course.axis or found.axis), with_rewards(study, course.quantities)
        curves, means = course_tables(study, quantities, look.axis)
        panels = panels_of(curves, quantities, (look.styles, baseline_of(study)))
        if not panels:
            continue
        said = ("", "") if study.is_imported else (course.caption, course.details)  # of how runs here are recorded
        yield Figure(
            course.name + ending,
            of_block(course.title, ending),
            f"{look.lines}. {said[0]} {seed_words(study)}.",
            small_multiples(curves, means, panels, look),
            {"seeds": curves, "means": means},
            in_words(means, panels, look),
            f"{said[1]} Negative controls are drawn among the learning curves alone, on axes of their own. A "
            f"band that leaves the scale of the {look.unit}s is cut.",
        )


def panels_of(curves: pd.DataFrame, quantities: Sequence[str], about: tuple[Styles, str]) -> list[Panel]:
    """The panels that have data: one a quantity, of differences one an arm. about: the arms' styles, the baseline."""
    styles, baseline = about
    negative = [arm for arm, style in styles.items() if style.background]
    front, panels = [arm for arm in styles if arm not in negative] or list(styles), list[Panel]()
    for quantity in quantities:
        if quantity == NEGATIVE:
            names = [styles[arm].label for arm in negative if arm not in front]
            panels.append(Panel(ACCURACY, [arm for arm in negative if arm not in front], f"Control: {listed(names)}"))
        elif quantity == DIFFERENCE:
            for arm in front:
                control = " (control)" if styles[arm].role == "positive" else ""
                title = f"{styles[arm].label}{control} \N{MINUS SIGN} {styles[baseline].label}"
                panels.append(Panel(quantity, [arm], title))
        else:
            panels.append(Panel(quantity, front, title_of(quantity)[0]))
    return [panel for panel in panels if not _of(panel, curves).empty]


def _of(panel: Panel, table: pd.DataFrame) -> pd.DataFrame:
    return table[table["quantity"].eq(panel.quantity) & table["arm"].isin(panel.arms)]


def with_rewards(study: Study, quantities: Sequence[str]) -> list[str]:
    """The quantities, with each reward of --reward in the place of REWARDS."""
    rewards = [name for name in map(str, study.metrics) if name.startswith("reward/")]
    return [name for one in quantities for name in (rewards if one == REWARDS else [one])]


def course_tables(study: Study, quantities: Sequence[str], axis: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every seed's curves, and their means with intervals; paired differences are over steps whatever the axis."""
    curves = seed_curves(study, [name for name in quantities if name not in (DIFFERENCE, NEGATIVE)], axis)
    means = mean_curves(curves, axis)
    if DIFFERENCE in quantities:
        paired = paired_differences(study)
        curves, means = (pd.concat(both, ignore_index=True) for both in ((curves, paired), (means, bands(paired))))
    return curves, means


def paired_differences(study: Study) -> pd.DataFrame:
    """Training accuracy of each arm minus the baseline's by step, of the seeds that both have; as `seed_curves`."""
    curves = seed_curves(study, (ACCURACY,))
    baseline = curves[curves["arm"] == baseline_of(study)][["seed", "x", "value"]]
    paired = curves[curves["arm"] != baseline_of(study)].merge(baseline, on=["seed", "x"], suffixes=("", "_baseline"))
    paired = paired.assign(value=paired["value"] - paired["value_baseline"], quantity=DIFFERENCE)
    return paired[curves.columns]


@paper()
def small_multiples(curves: pd.DataFrame, means: pd.DataFrame, panels: Sequence[Panel], look: Look) -> Drawing:
    """Axes per panel, those of one quantity on one scale; the legend in free ones, or above where it has no room."""
    shown = {arm for panel in panels for arm in panel.arms}
    styles = {arm: style for arm, style in look.styles.items() if arm in shown}
    columns = min(fitting(COLUMNS), len(panels))
    above = not -len(panels) % columns or len(styles) > MOST_NAMES
    row, room = ROW_HEIGHT if len(panels) >= COLUMNS else 2.6, 0.3 + 0.05 * len(styles)
    drawing, axes = grid(len(panels), COLUMNS, row, room * above)
    for ax, panel in zip(axes, panels, strict=True):
        draw_curves(ax, _of(panel, curves), _of(panel, means), styles)
        _label(ax, panel, look)
    for quantity in {panel.quantity for panel in panels}:
        alike = [ax for ax, panel in zip(axes, panels, strict=True) if panel.quantity == quantity]
        low, high = (end(ax.get_ylim()[place] for ax in alike) for place, end in enumerate((min, max)))
        for ax in alike:
            ax.set_ylim(low, high)
    handles = [*arm_handles(styles), handle(f"one {look.unit}", color="#888888", linewidth=0.6)]
    legend(drawing, handles, None if above else drawing.axes[len(panels)])
    return drawing


def title_of(quantity: str) -> tuple[str, str]:
    """Title and unit; `quantity: benchmark` is what a quantity is on that benchmark alone."""
    name, _, benchmark = quantity.partition(": ")
    if name.startswith("reward/"):
        return f"Reward {name.removeprefix('reward/')}", QUANTITIES[REWARDS][1]
    title, unit = QUANTITIES[name]
    return (f"{title}, {benchmark}" if benchmark else title), unit


def _label(ax: Axes, panel: Panel, look: Look) -> None:
    quantity, unit = panel.quantity, title_of(panel.quantity)[1]
    ax.set_title(fold(panel.title))
    ax.set_ylabel(unit if quantity != DIFFERENCE or in_first_column(ax) else "")
    if unit.startswith("%"):
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
    if quantity.startswith(LENGTH):
        draw_limit(ax, look.limit)
    if quantity in (DIFFERENCE, WEIGHT):
        nothing = float(quantity == WEIGHT)
        ax.axhline(nothing, color=INK, linewidth=0.8, linestyle=":")
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, nothing - 0.05 * (high - low)), max(high, nothing + 0.05 * (high - low)))
    axis = "steps" if quantity == DIFFERENCE else look.axis
    ax.set_xlabel(fold(AXIS_LABELS[axis]))
    if axis == "steps":
        whole_steps(ax)
    else:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def in_words(means: pd.DataFrame, panels: Sequence[Panel], look: Look) -> str:
    """What is shown, and where the first quantity of each arm begins and ends."""
    titles, first = ", ".join(panel.title for panel in panels), panels[0]
    ends = [
        f"{look.styles[str(arm)].label} from {of_arm['mean'].iloc[0]:.3g} to {of_arm['mean'].iloc[-1]:.3g}"
        for arm, of_arm in _of(first, means).groupby("arm", sort=False, observed=True)
    ]
    return f"Curves over the {AXIS_LABELS[look.axis]}: {titles}. {first.title}: {'; '.join(ends)}."
