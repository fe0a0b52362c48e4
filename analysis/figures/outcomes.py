"""What each arm ends with; where runs collapsed, also as profiles of runs, which no single run can dominate."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.figures.canvas import (
    Drawing,
    arm_handles,
    draw_row,
    grid,
    legend,
    name_rows,
    seed_and_mean,
    zero_line,
)
from analysis.figures.figure import Figure, baseline_of, compared_blocks, of_block, seed_words
from analysis.figures.style import Styles, arm_styles, paper
from analysis.formatting import with_interval
from analysis.records.outcomes import OUTCOMES, scores_of, summary_table
from analysis.statistics.intervals import Interval
from analysis.statistics.robust import probability_of_improvement, share_above
from analysis.verdict.findings import Findings

SHOWN, FINAL = ("auc", "final_accuracy"), "final_accuracy"


def outcome_figures(found: Findings) -> Iterator[Figure]:
    """The outcomes of each block without its negative controls, and their profiles where a compared run collapsed."""
    styles = arm_styles(found.study)
    for ending, study in compared_blocks(found):
        (block,) = study.blocks
        rows = scores_of(found.scores, block)
        front = [arm for arm in dict.fromkeys(rows["arm"]) if not styles[arm].background]
        rows = rows[rows["arm"].isin(front)] if front else rows
        shown = [name for name in SHOWN if rows[name].notna().any()]
        seeds = rows.melt(id_vars=["run", "arm", "seed"], value_vars=shown, var_name="outcome")
        means = summary_table(rows, shown)
        aucs = means[means["outcome"] == "auc"]
        told = "; ".join(f"{styles[row['arm']].label} {row['mean']:.3f}" for _, row in aucs.iterrows())
        unit = study.units[0]
        yield Figure(
            f"outcomes{ending}",
            of_block("Outcomes of each arm", ending),
            f"Every {unit}, mean and 95 % t interval. Whether two arms differ is decided by the test of their "
            f"difference, not by overlap. {seed_words(study)}.",
            draw_outcomes(seeds, means, (styles, unit)),
            {"seeds": seeds, "means": means},
            f"Dots and intervals per arm. AUC: {told}.",
            f"AUC: {OUTCOMES['auc'].label}. Final accuracy: {OUTCOMES[FINAL].label}. Negative controls are left to the "
            "table.",
        )
        compared = rows[rows["arm"].isin([arm.name for arm in study.compared_arms])]
        if compared["collapsed"].any():
            yield _profiles(compared, (of_block("Profiles of the runs", ending), ending), baseline_of(study), styles)


@paper()
def draw_outcomes(seeds: pd.DataFrame, means: pd.DataFrame, look: tuple[Styles, str]) -> Drawing:
    """Axes per outcome. seeds: arm, outcome, value. means: arm, outcome, mean, low, high. look: styles, the unit."""
    styles, unit = look
    arms, shown = list(dict.fromkeys(means["arm"])), list(dict.fromkeys(means["outcome"]))
    drawing, axes = grid(len(shown), 2, 0.36 * len(arms) + 0.6, 0.3, sharey=True)
    for ax, outcome in zip(axes, shown, strict=True):
        of_seeds, of_means = (table[table["outcome"] == outcome] for table in (seeds, means))
        for y, arm in enumerate(arms):
            values = list(of_seeds.loc[of_seeds["arm"] == arm, "value"])
            draw_row(ax, y, of_means[of_means["arm"] == arm].iloc[0], values, styles[arm])
        name_rows(ax, [styles[arm].label for arm in arms])
        ax.margins(x=0.06)
        ax.set_xlabel(OUTCOMES[outcome].unit)
    legend(drawing, seed_and_mean(unit))
    return drawing


def profiles(scores: pd.DataFrame, baseline: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of each arm the share of runs above each final accuracy that occurs, and the chance that a run of it beats one
    of the baseline's: arm, x, mean, low, high, n; and the same without x."""
    by_arm = {str(arm): rows[FINAL].to_numpy(float) for arm, rows in scores.groupby("arm", sort=False)}
    places = np.unique(np.append(scores[FINAL].to_numpy(float), 0.0))
    shares = [{"arm": arm, "x": x, **vars(share_above(own, x))} for arm, own in by_arm.items() for x in places]
    better = [
        {"arm": arm, **vars(probability_of_improvement(own, by_arm[baseline]))}
        for arm, own in by_arm.items()
        if arm != baseline and baseline in by_arm
    ]
    return pd.DataFrame(shares), pd.DataFrame(better, columns=["arm", "mean", "low", "high", "n"])


def _profiles(scores: pd.DataFrame, names: tuple[str, str], baseline: str, styles: Styles) -> Figure:
    shares, better = profiles(scores, baseline)
    told = [
        f"{styles[row['arm']].label} {with_interval(Interval(row['mean'], row['low'], row['high'], row['n']), 2)}"
        for _, row in better.iterrows()
    ]
    return Figure(
        f"outcomes_profiles{names[1]}",
        names[0],
        f"{int(scores['collapsed'].sum())} of {len(scores)} compared runs collapsed, and one can dominate a mean. "
        f"Left: the share of runs that end above an accuracy. Right: the chance that a run ends above one of "
        f"{styles[baseline].label}.",
        draw_profiles(shares, better, (baseline, styles)),
        {"shares": shares, "better": better},
        f"Performance profiles. Chance to end above {styles[baseline].label}: {'; '.join(told) or 'not compared'}.",
        "Agarwal and others (2021). Bands: exact (Clopper and Pearson) 95 % intervals of a share; bars: Newcombe's "
        "(2006, method 5), as if the arms were independent. At 0.5 neither arm is the better one.",
    )


@paper()
def draw_profiles(shares: pd.DataFrame, better: pd.DataFrame, about: tuple[str, Styles]) -> Drawing:
    """Tables as `profiles` gives them; about: the baseline and the arms' styles."""
    baseline, styles = about
    arms = list(dict.fromkeys(shares["arm"]))
    drawing, (left, right) = grid(2, 2, 2.5, 0.3)
    for arm in arms:
        rows, style = shares[shares["arm"] == arm], styles[arm]
        left.step(rows["x"], rows["mean"], where="post", color=style.color, linestyle=style.linestyle)
        left.fill_between(rows["x"], rows["low"], rows["high"], step="post", color=style.color, alpha=0.1, linewidth=0)
    left.set(xlabel=f"{OUTCOMES[FINAL].unit} x", ylabel="share of runs above x", ylim=(-0.02, 1.02))
    for y, (_, row) in enumerate(better.iterrows()):
        draw_row(right, y, row, [], styles[row["arm"]])
    name_rows(right, [styles[arm].label for arm in better["arm"]])
    zero_line(right, 0.5)
    right.set(xlim=(0, 1), xlabel=f"chance to end above {styles[baseline].label}")
    legend(drawing, arm_handles({arm: styles[arm] for arm in arms}))
    return drawing
