"""Accuracy against response length: four views of the last answers, and the path over training."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.figures.canvas import Axes, Drawing, draw_curves, draw_row, grid, handle, legend, name_rows, zero_line
from analysis.figures.figure import Figure, seed_words
from analysis.figures.style import INK, Look, Styles, arm_styles, paper
from analysis.records.curves import bands, evaluation_curves
from analysis.records.study import Study
from analysis.statistics.length import SMALLEST_BIN, anytime, pooled_by_length
from analysis.verdict.findings import Findings

STAGE_MARKS = ("o", "^", "s", "D")  # quarters of training, as the FIPO paper's Figure 3f has them
VIEW_DETAILS = (
    "(a) Share correct per quantile bin of length; bars: 95 % t interval over seeds; bins of fewer than "
    f"{SMALLEST_BIN} answers are hidden, and answers cut off at the limit stand apart. Hard prompts have longer "
    "answers: do not read an effect of length from it. (b) Share of answers that are correct and no longer than the "
    "budget. (c) Among answers of one policy to one prompt, the probability that a right one is longer than a wrong "
    "one; at 0.5 length says nothing. (d) Slope of a conditional (fixed-effect) logit of being right on log tokens, "
    "which removes what each prompt contributes. c and d: mean and 95 % t interval over seeds, without answers that "
    "were cut off."
)


def length_figures(found: Findings) -> Iterator[Figure]:
    """Pooled, at every budget, and within prompts; of a comparison alone."""
    if not found.study.is_comparison:
        return
    pooled, curves, styles = pooled_by_length(found.answers), anytime(found.answers), arm_styles(found.study)
    means, within = bands(curves), found.within_prompt
    rows = within[within["measure"] == "concordance"]
    told = "; ".join(f"{styles[row['arm']].label} {row['mean']:.2f}" for _, row in rows.iterrows())
    yield Figure(
        "accuracy_against_length",
        "Accuracy against response length",
        "Of each run's last evaluations. Length follows from the policy, so this describes and explains nothing; view "
        f"a is confounded by difficulty. {seed_words(found.study)}.",
        draw_views((pooled, within, curves, means), styles),
        {"pooled": pooled, "within_prompt": within, "anytime": curves, "anytime_means": means},
        "Four views of accuracy against length. Probability that the right one of two answers to a prompt is the "
        f"longer: {told}.",
        VIEW_DETAILS,
    )


def path_figures(found: Findings) -> Iterator[Figure]:
    """Mean length against accuracy at each evaluation, joined in the order of training; of a comparison alone."""
    points = path_points(found.study)
    if not found.study.is_comparison or points.empty:
        return
    yield Figure(
        "length_path",
        "The path of length and accuracy over training",
        "Mean length and accuracy at each evaluation, a line per seed, a mark per quarter of training (the FIPO "
        f"paper's Figure 3f). What happened in training, not what longer answers do. {seed_words(found.study)}.",
        draw_paths(points, arm_styles(found.study)),
        {"points": points},
        "Paths of mean response length and accuracy over training, for each arm.",
        "The points of a run are not independent: prompts, policy and length change together along the path.",
    )


def path_points(study: Study) -> pd.DataFrame:
    """A row per run and evaluation: run, arm, seed, step, stage (quarter of the steps, 1 to 4), length, accuracy."""
    curves = evaluation_curves(study.evals)
    place = {arm.name: index for index, arm in enumerate(study.arms)}
    curves = curves.sort_values("arm", key=lambda names: names.map(place), kind="stable", ignore_index=True)
    last = curves.groupby("run", observed=True)["step"].transform("max").clip(lower=1)
    stages = len(STAGE_MARKS)
    stage = np.minimum((stages * curves["step"] / last).astype(int) + 1, stages)
    return curves.assign(stage=stage)[["run", "arm", "seed", "step", "stage", "response_tokens", "accuracy"]]


@paper()
def draw_views(tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame], styles: Styles) -> Drawing:
    """tables: pooled bins, measures within prompts, anytime curves, and the means of these."""
    pooled, within, curves, means = tables
    drawing, axes = grid(2, 2, 6.0)
    styles = {arm: style for arm, style in styles.items() if curves["arm"].eq(arm).any()}
    _pooled(axes[0], pooled, styles)
    draw_curves(axes[1], curves, means, styles)
    axes[1].set_title("b  At every budget")
    axes[1].set(xlabel="budget: tokens per response at most", ylabel="share correct and within budget")
    _within(axes[2], within[within["measure"] == "concordance"], styles, 0.5)
    axes[2].set_title("c  Within prompt: concordance")
    axes[2].set_xlabel("P(right answer is the longer | prompt, policy)")
    _within(axes[3], within[within["measure"] == "slope"], styles, 0.0)
    axes[3].set_title("d  Within prompt: logit slope")
    axes[3].set_xlabel("log-odds of being right per unit of log tokens")
    axes[3].set_yticklabels([])
    legend(drawing, styles)
    return drawing


@paper()
def draw_paths(points: pd.DataFrame, styles: Styles) -> Drawing:
    """Axes per arm. points: as `path_points` gives them."""
    arms = list(dict.fromkeys(points["arm"]))
    columns = min(3, len(arms))
    rows = -(-len(arms) // columns)
    drawing, axes = grid(rows, columns, 2.2 * rows + 0.4, sharey=True)
    for ax, arm in zip(axes, arms, strict=False):
        of_arm, color = points[points["arm"] == arm], styles[arm].color
        for _, path in of_arm.groupby("run", sort=False, observed=True):
            ax.plot(path["response_tokens"], path["accuracy"], color=color, linewidth=0.5, alpha=0.4)
        for stage, rows_of in of_arm.groupby("stage"):
            look: Look = {"linestyle": "", "marker": STAGE_MARKS[int(str(stage)) - 1], "markersize": 3, "alpha": 0.75}
            ax.plot(rows_of["response_tokens"], rows_of["accuracy"], color=color, **look)
        ax.set_title(styles[arm].label)
        ax.set_xlabel("mean response tokens")
        ax.margins(0.06)
    for ax in axes[len(arms) :]:
        ax.axis("off")
    for ax in axes[::columns]:
        ax.set_ylabel("evaluation accuracy")
    marks = [
        handle(f"quarter {number} of training", linestyle="", marker=mark, color=INK, markersize=4)
        for number, mark in enumerate(STAGE_MARKS, start=1)
    ]
    drawing.legend(handles=marks, loc="outside upper center", ncols=len(marks))
    return drawing


def _pooled(ax: Axes, pooled: pd.DataFrame, styles: Styles) -> None:
    """Bins of equal width on the axis, since their edges are quantiles; arms side by side within each."""
    labels = pooled.drop_duplicates("bin").sort_values("bin").set_index("bin")["label"]
    place = {index: float(position) for position, index in enumerate(labels.index)}
    for shift, (arm, style) in zip(np.linspace(-0.28, 0.28, len(styles)), styles.items(), strict=True):
        rows = pooled[pooled["arm"] == arm]
        x = rows["bin"].map(place) + shift
        ax.vlines(x, rows["low"], rows["high"], color=style.color, linewidth=1.2)
        ax.plot(x, rows["mean"], linestyle="", marker=style.marker, color=style.color, markersize=3.5)
    n = pooled.groupby("bin")["n"].sum()
    counts = [f"{count / 1000:.1f}k" if count >= 1000 else str(count) for count in n]
    ax.set_xticks(range(len(labels)), [f"{a}\n{b}" for a, b in zip(labels, counts, strict=True)], fontsize=6.5)
    ax.set(xlabel="response tokens (bins by quantile); below: answers", ylabel="share of answers correct")
    ax.set_ylim(-0.02, 1.02)
    ax.set_title("a  Pooled: confounded by difficulty")


def _within(ax: Axes, rows: pd.DataFrame, styles: Styles, nothing: float) -> None:
    """Mean and interval per arm, beside the value at which length says nothing."""
    arms = [arm for arm in styles if rows["arm"].eq(arm).any()]
    for y, arm in enumerate(arms):
        draw_row(ax, y, rows[rows["arm"] == arm].iloc[0], [], styles[arm])
    name_rows(ax, [styles[arm].label for arm in arms])
    zero_line(ax, nothing)
    ax.margins(x=0.1)
