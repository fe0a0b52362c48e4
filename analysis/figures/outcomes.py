"""The outcomes of each arm: every seed, mean and interval."""

from collections.abc import Iterator

import pandas as pd

from analysis.figures.canvas import Axes, Drawing, draw_row, grid, name_rows, seed_and_mean
from analysis.figures.figure import Figure, compared_blocks, of_block, seed_words
from analysis.figures.style import Styles, arm_styles, paper
from analysis.records.outcomes import OUTCOMES, scores_of, summary_table
from analysis.verdict.findings import Findings

SHOWN = ("auc", "final_accuracy")


def outcome_figures(found: Findings) -> Iterator[Figure]:
    """All arms of a block on the left; on the right, magnified, without negative controls."""
    styles = arm_styles(found.study)
    for ending, study in compared_blocks(found):
        (block,) = study.blocks
        rows = scores_of(found.scores, block)
        seeds = rows.melt(id_vars=["run", "arm", "seed"], value_vars=list(SHOWN), var_name="outcome")
        means = summary_table(rows, list(SHOWN))
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
    drawing, axes = grid(len(SHOWN), len(columns), len(SHOWN) * (0.36 * len(arms) + 0.6) + 0.4)
    for place, ax in enumerate(axes):
        outcome, shown = SHOWN[place // len(columns)], columns[place % len(columns)]
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
