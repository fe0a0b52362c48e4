"""Accuracy against response length: of the last answers, and the path of both over training."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.figures.canvas import (
    Drawing,
    arm_handles,
    draw_curves,
    draw_limit,
    draw_row,
    grid,
    handle,
    in_first_column,
    legend,
    name_rows,
    zero_line,
)
from analysis.figures.figure import Figure, compared_blocks, length_limit, of_block, seed_words
from analysis.figures.style import INK, Look, Styles, arm_styles, paper
from analysis.formatting import plain
from analysis.records.curves import bands, in_order
from analysis.records.outcomes import final_evaluations, scores_of
from analysis.records.study import Study
from analysis.statistics.intervals import t_interval
from analysis.statistics.length import anytime
from analysis.verdict.findings import Findings

STAGE_MARKS = ("o", "^", "s", "D")  # quarters of training, as the FIPO paper's Figure 3f has them
SLOPE = "length_slope"
Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]


def length_figures(found: Findings) -> Iterator[Figure]:
    """At every budget of tokens, and within prompts."""
    styles = arm_styles(found.study)
    for ending, study in about_length(found):
        if (last := final_evaluations(study.answers, study.configs)).empty:
            continue
        curves = anytime(in_order(last, study, ["seed", "step", "prompt_id", "sample"]))
        seeds = scores_of(found.scores, next(iter(study.blocks)))[["run", "arm", "seed", SLOPE]]
        intervals = {
            arm: t_interval(rows[SLOPE].dropna().to_numpy(float)) for arm, rows in seeds.groupby("arm", sort=False)
        }
        means, slopes = bands(curves), pd.DataFrame([{"arm": arm, **vars(one)} for arm, one in intervals.items()])
        told = "; ".join(f"{styles[row['arm']].label} {plain(row['mean'], 2)}" for _, row in slopes.iterrows())
        yield Figure(
            "accuracy_against_length" + ending,
            of_block("Accuracy against response length", ending),
            "Of each run's last evaluations. Left: answers that are correct and no longer than the budget. Right: "
            f"whether the longer answer to the same prompt is more often right. {seed_words(study)}.",
            draw_views((curves, means, seeds, slopes), styles, length_limit(study)),
            {"anytime": curves, "anytime_means": means, "slopes": seeds, "slope_means": slopes},
            f"Accuracy over the budget of tokens, and log-odds of being right per unit of log tokens: {told}.",
            "Length follows from the policy, so this describes and explains nothing. Right: slope of a conditional "
            "(fixed-effect) logit of being right on log tokens, which removes what each prompt contributes, of answers "
            "that were not cut off; at 0 length says nothing. Mean and 95 % t interval over seeds. Dashed: "
            "--max_response_tokens.",
        )


def path_figures(found: Findings) -> Iterator[Figure]:
    """Mean length against accuracy at each evaluation, joined in the order of training."""
    for ending, study in about_length(found):
        points = path_points(study)
        if points.empty:
            continue
        yield Figure(
            "length_path" + ending,
            of_block("The path of length and accuracy over training", ending),
            f"Mean length and accuracy at each evaluation, a line per {study.units[0]}, a mark per quarter of training "
            f"(the paper's Figure 3f). What happened in training, not what longer answers do. {seed_words(study)}.",
            draw_paths(points, arm_styles(found.study), length_limit(study)),
            {"points": points},
            "Paths of mean response length and accuracy over training, for each arm.",
            "The points of a run are not independent: prompts, policy and length change together along the path.",
        )


def about_length(found: Findings) -> Iterator[tuple[str, Study]]:
    """A comparison; of a study of several blocks those whose length a claim asks about. As `compared_blocks`."""
    claims = found.study.claims.claims if found.study.claims else ()
    asked = {claim.arm.partition("/")[0] for claim in claims if claim.metric == "final_response_tokens"}
    for ending, study in compared_blocks(found):
        if found.study.is_comparison or asked & set(study.blocks):
            yield ending, study


def path_points(study: Study) -> pd.DataFrame:
    """A row per run and evaluation: run, arm, seed, step, stage (quarter of the steps, 1 to 4), length, accuracy."""
    curves = in_order(study.evaluated.dropna(subset="response_tokens"), study, ["run", "step"])
    last = curves.groupby("run", observed=True)["step"].transform("max").clip(lower=1)
    stages = len(STAGE_MARKS)
    stage = np.minimum((stages * curves["step"] / last).astype(int) + 1, stages)
    return curves.assign(stage=stage)[["run", "arm", "seed", "step", "stage", "response_tokens", "accuracy"]]


@paper()
def draw_views(tables: Tables, styles: Styles, limit: float | None) -> Drawing:
    """tables: anytime curves and their means, the slopes within prompts by seed and their means."""
    curves, means, seeds, slopes = tables
    arms = [arm for arm in styles if curves["arm"].eq(arm).any()]
    styles = {arm: styles[arm] for arm in arms}
    drawing, (left, right) = grid(2, 2, 2.9, 0.3)
    draw_curves(left, curves, means, styles)
    draw_limit(left, limit, upright=True)
    left.set_title("At every budget")
    left.set(xlabel="budget: tokens per response at most", ylabel="share correct and within budget")
    for y, arm in enumerate(arms):
        values = list(seeds.loc[seeds["arm"] == arm, SLOPE])
        draw_row(right, y, slopes[slopes["arm"] == arm].iloc[0], values, styles[arm])
    name_rows(right, [style.label for style in styles.values()])
    zero_line(right)
    right.margins(x=0.1)
    right.set_title("Within prompt")
    right.set_xlabel("log-odds of being right\nper unit of log tokens")
    legend(drawing, arm_handles(styles))
    return drawing


@paper()
def draw_paths(points: pd.DataFrame, styles: Styles, limit: float | None) -> Drawing:
    """Axes per arm. points: as `path_points` gives them."""
    arms = list(dict.fromkeys(points["arm"]))
    drawing, axes = grid(len(arms), 3, 2.0, 0.3, sharey=True)
    for ax, arm in zip(axes, arms, strict=True):
        of_arm, color = points[points["arm"] == arm], styles[arm].color
        for _, path in of_arm.groupby("run", sort=False, observed=True):
            ax.plot(path["response_tokens"], path["accuracy"], color=color, linewidth=0.5, alpha=0.4)
        for stage, rows_of in of_arm.groupby("stage"):
            look: Look = {"linestyle": "", "marker": STAGE_MARKS[int(str(stage)) - 1], "markersize": 3, "alpha": 0.75}
            ax.plot(rows_of["response_tokens"], rows_of["accuracy"], color=color, **look)
        ax.set_title(styles[arm].label)
        ax.set_xlabel("mean response tokens")
        ax.margins(0.06)
        ax.set_ylabel("evaluation accuracy" if in_first_column(ax) else "")
        draw_limit(ax, limit, upright=True)
    marks = [
        handle(f"quarter {number} of training", linestyle="", marker=mark, color=INK, markersize=4)
        for number, mark in enumerate(STAGE_MARKS, start=1)
    ]
    legend(drawing, marks)
    return drawing
