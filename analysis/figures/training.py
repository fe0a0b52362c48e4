"""The course of training and where it ends: quantities over steps, tokens or time, paired differences, outcomes."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.ticker import EngFormatter

from analysis.figures.canvas import (
    Axes,
    Drawing,
    draw_curves,
    draw_row,
    grid,
    handle,
    legend,
    name_rows,
    seed_and_mean,
    whole_steps,
)
from analysis.figures.figure import Figure, baseline_of, compared_blocks, of_block, seed_words
from analysis.figures.style import INK, Styles, arm_styles, paper
from analysis.records.curves import bands, mean_curves, seed_curves
from analysis.records.outcomes import OUTCOMES, scores_of, summary_table
from analysis.records.study import Study
from analysis.verdict.findings import Findings

ACCURACY, LENGTH, WEIGHT = "rollout/accuracy", "rollout/response_tokens_mean", "loss/influence_weight"
EVALUATION, ENTROPY, DIFFERENCE = "evaluation/accuracy", "rollout/entropy", "difference"
REWARDS = "reward/*"  # stands for every reward of the user's own
SHOWN_OUTCOMES = ("auc", "final_accuracy")
COLUMNS, ROW_HEIGHT, MOST_NAMES = 3, 2.05, 6
EVERY_SEED = "Thin lines: seeds; thick line and band: their mean and 95 % t interval"
NEGATIVE_WORDS = "A negative control is a thin grey line that sets no scale."
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
    """A figure of several quantities, over `axis` whatever the others are drawn over; None as they are."""

    name: str
    title: str
    quantities: Sequence[str]
    caption: str
    details: str
    axis: str | None = None


COURSES = tuple(Course(**one) for one in DATA["course"])


def course_figures(found: Findings, course: Course) -> Iterator[Figure]:
    """The figure of each block that varies nothing."""
    styles, axis = arm_styles(found.study), course.axis or found.axis
    for ending, study in compared_blocks(found):
        quantities = with_rewards(study, course.quantities)
        curves, means = course_tables(study, quantities, axis)
        shown = [name for name in quantities if curves["quantity"].eq(name).any()]
        if not shown:
            continue
        negative = f" {NEGATIVE_WORDS}" if any(styles[arm.name].background for arm in study.arms_with_runs) else ""
        yield Figure(
            course.name + ending,
            of_block(course.title, ending),
            f"{EVERY_SEED}. {course.caption} {seed_words(study)}.",
            small_multiples(curves, means, shown, (styles, axis)),
            {"seeds": curves, "means": means},
            in_words(means, shown, (styles, axis)),
            f"{course.details}{negative} Seeds set the scale, and a band that leaves it is cut.",
        )


def with_rewards(study: Study, quantities: Sequence[str]) -> list[str]:
    """The quantities, with each reward of --reward in the place of REWARDS."""
    rewards = [name for name in map(str, study.metrics) if name.startswith("reward/")]
    return [name for one in quantities for name in (rewards if one == REWARDS else [one])]


def course_tables(study: Study, quantities: Sequence[str], axis: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every seed's curves, and their means with intervals; paired differences are over steps whatever the axis."""
    curves = seed_curves(study, [name for name in quantities if name != DIFFERENCE], axis)
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
def small_multiples(
    curves: pd.DataFrame, means: pd.DataFrame, quantities: Sequence[str], look: tuple[Styles, str]
) -> Drawing:
    """Axes per quantity; the legend in free ones, or above where it has no room. look: styles, and the x axis."""
    styles = {arm: style for arm, style in look[0].items() if curves["arm"].eq(arm).any()}
    columns = min(COLUMNS, len(quantities))
    rows, free = -(-len(quantities) // columns), -len(quantities) % columns
    above = not free or len(styles) > MOST_NAMES
    height = (ROW_HEIGHT if columns == COLUMNS else 2.6) * rows + (0.3 + 0.16 * -(-len(styles) // 3) if above else 0.2)
    drawing, axes = grid(rows, columns, height)
    for ax, quantity in zip(axes, quantities, strict=False):
        of_quantity = (curves[curves["quantity"] == quantity], means[means["quantity"] == quantity])
        draw_curves(ax, *of_quantity, styles)
        _label(ax, quantity, look[1])
    for ax in axes[len(quantities) :]:
        ax.axis("off")
    seed = handle("one seed", color="#888888", linewidth=0.6)
    legend(drawing, styles, [seed], None if above else axes[len(quantities)])
    return drawing


def title_of(quantity: str) -> tuple[str, str]:
    """Title and unit; `quantity: benchmark` is what a quantity is on that benchmark alone."""
    name, _, benchmark = quantity.partition(": ")
    if name.startswith("reward/"):
        return f"Reward {name.removeprefix('reward/')}", QUANTITIES[REWARDS][1]
    title, unit = QUANTITIES[name]
    return (f"{title}, {benchmark}" if benchmark else title), unit


def _label(ax: Axes, quantity: str, axis: str) -> None:
    title, unit = title_of(quantity)
    ax.set_title(title)
    ax.set_ylabel(unit)
    if unit.startswith("%"):
        ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")
    if quantity in (DIFFERENCE, WEIGHT):
        nothing = float(quantity == WEIGHT)
        ax.axhline(nothing, color=INK, linewidth=0.8, linestyle=":")
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, nothing - 0.05 * (high - low)), max(high, nothing + 0.05 * (high - low)))
    axis = "steps" if quantity == DIFFERENCE else axis
    ax.set_xlabel(AXIS_LABELS[axis])
    if axis == "steps":
        whole_steps(ax)
    else:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def in_words(means: pd.DataFrame, quantities: Sequence[str], look: tuple[Styles, str]) -> str:
    """What is shown, and where the first quantity of each arm begins and ends."""
    titles = ", ".join(title_of(name)[0].lower() for name in quantities)
    rows = means[means["quantity"] == quantities[0]]
    ends = [
        f"{look[0][str(arm)].label} from {of_arm['mean'].iloc[0]:.3g} to {of_arm['mean'].iloc[-1]:.3g}"
        for arm, of_arm in rows.groupby("arm", sort=False, observed=True)
    ]
    return f"Curves over the {AXIS_LABELS[look[1]]}: {titles}. {title_of(quantities[0])[0]}: {'; '.join(ends)}."


def outcome_figures(found: Findings) -> Iterator[Figure]:
    """All arms of a block on the left; on the right, magnified, without negative controls."""
    styles = arm_styles(found.study)
    for ending, study in compared_blocks(found):
        (block,) = study.blocks
        rows = scores_of(found.scores, block)
        seeds = rows.melt(id_vars=["run", "arm", "seed"], value_vars=list(SHOWN_OUTCOMES), var_name="outcome")
        means = summary_table(rows, list(SHOWN_OUTCOMES))
        aucs = means[means["outcome"] == "auc"]
        told = "; ".join(f"{styles[row['arm']].label} {row['mean']:.3f}" for _, row in aucs.iterrows())
        yield Figure(
            f"outcomes{ending}",
            of_block("Outcomes of each arm", ending),
            "Every seed, mean and 95 % t interval; on the right without negative controls. Whether two arms differ is "
            f"decided by their paired difference, not by overlap. {seed_words(study)}.",
            draw_outcomes(seeds, means, styles),
            {"seeds": seeds, "means": means},
            f"Dots and intervals per arm. AUC: {told}.",
            f"AUC: {OUTCOMES['auc'].label}. Final accuracy: {OUTCOMES['final_accuracy'].label}.",
        )


@paper()
def draw_outcomes(seeds: pd.DataFrame, means: pd.DataFrame, styles: Styles) -> Drawing:
    """A row of axes per outcome. seeds: arm, outcome, value. means: arm, outcome, mean, low, high."""
    arms = list(dict.fromkeys(means["arm"]))
    close = [arm for arm in arms if not styles[arm].background]
    columns = [arms, close] if 0 < len(close) < len(arms) else [arms]
    drawing, axes = grid(len(SHOWN_OUTCOMES), len(columns), len(SHOWN_OUTCOMES) * (0.36 * len(arms) + 0.6) + 0.4)
    for place, ax in enumerate(axes):
        outcome, shown = SHOWN_OUTCOMES[place // len(columns)], columns[place % len(columns)]
        _rows(ax, seeds[seeds["outcome"] == outcome], means[means["outcome"] == outcome], {a: styles[a] for a in shown})
        ax.set_xlabel(OUTCOMES[outcome].unit)
    drawing.legend(handles=seed_and_mean(), loc="outside upper center", ncols=2)
    return drawing


def _rows(ax: Axes, seeds: pd.DataFrame, means: pd.DataFrame, styles: Styles) -> None:
    for y, (arm, style) in enumerate(styles.items()):
        values = list(seeds.loc[seeds["arm"] == arm, "value"])
        draw_row(ax, y, means[means["arm"] == arm].iloc[0], values, style)
    name_rows(ax, [style.label for style in styles.values()])
    ax.margins(x=0.06)
