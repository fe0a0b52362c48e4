"""Arms that each differ from an earlier one in one setting: what every switch brought, seed by seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.figures.canvas import Axes, Drawing, draw_row, grid, legend, name_rows, seed_and_mean, zero_line
from analysis.figures.figure import Figure, compared_blocks, of_block, seed_words
from analysis.figures.style import Styles, arm_styles, paper
from analysis.formatting import bracket, signed
from analysis.records.outcomes import scores_of
from analysis.records.search import word
from analysis.records.study import Study
from analysis.statistics.intervals import t_interval
from analysis.verdict.findings import Findings
from analysis.verdict.inert import identical

FEWEST_RUNGS = 3
GAINS = {"auc": ("At equal steps", "gain in AUC"), "accuracy_at_equal_tokens": ("At equal tokens", "gain in accuracy")}


@dataclass(frozen=True)
class Rung:
    """An arm, the one that it is built on, and the one setting in which they differ."""

    arm: str
    parent: str
    setting: str
    before: Any
    after: Any

    @property
    def pair(self) -> tuple[str, str]:
        """Both arms."""
        return self.arm, self.parent


def ladder_figures(found: Findings) -> Iterator[Figure]:
    """The paired gain of each switch over the arm that it was made on; none where the study is no ladder."""
    for ending, study in compared_blocks(found):
        steps = rungs(study)
        if len(steps) < FEWEST_RUNGS:
            continue
        (block,) = study.blocks
        table, seeds = gains(scores_of(found.scores, block), steps)
        same = {rung.arm: identical(study, *rung.pair) for rung in steps}
        table = table.assign(identical=[bool(same[arm]) and all(same[arm]) for arm in table["arm"]])
        rows = table[table["outcome"] == "auc"]
        words = [f"{row['arm']} {signed(row['mean'])} {bracket(row['low'], row['high'])}" for _, row in rows.iterrows()]
        yield Figure(
            f"ladder{ending}",
            of_block("One switch at a time", ending),
            "Each arm minus the arm named in brackets, from which it differs in the setting shown: every seed, mean "
            f"and 95 % t interval of the paired differences, uncorrected. {seed_words(study)}.",
            draw_ladder(table, seeds, (steps, arm_styles(found.study))),
            {"gains": table, "seeds": seeds},
            f"A row per switch. Gains in AUC: {'; '.join(words)}.",
            "Right: evaluation accuracy where the most frugal compared run ends, counting every generated token: a "
            "switch that generates more pays for it there. Identical: both arms are the same "
            "runs bit for bit, so the switch changed no update. Exploratory, unless a claim names the pair.",
        )


def settings_of(study: Study) -> dict[str, dict[str, Any]]:
    """What differs between the arms, by arm and setting, as study.json says."""
    fields = {item["field"]: item["values"] for item in study.description.get("differences", [])}
    return {arm.name: {name: values.get(arm.name) for name, values in fields.items()} for arm in study.arms}


def rungs(study: Study) -> list[Rung]:
    """The arms in the study's order that differ from an earlier one, the nearest such, in exactly one setting.

    A loss brings its own settings (fipo_*) with its name: where the losses differ these are no differences beside it.
    """
    settings, arms, found = settings_of(study), study.compared_arms, []
    for place, arm in enumerate(arms):
        for parent in reversed(arms[:place]):
            own = () if arm.loss_type == parent.loss_type else (f"{arm.loss_type}_", f"{parent.loss_type}_")
            before, after = settings[parent.name], settings[arm.name]
            differ = [name for name in after if after[name] != before[name] and not (own and name.startswith(own))]
            if len(differ) == 1:
                found.append(Rung(arm.name, parent.name, differ[0], before[differ[0]], after[differ[0]]))
                break
    return found


def gains(scores: pd.DataFrame, steps: list[Rung]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Paired gain of each rung (arm, parent, outcome, mean, low, high, n) and seed by seed (arm, outcome, seed, gain).

    scores: of one block. outcome: one of GAINS.
    """
    rows, seeds = [], []
    for rung in steps:
        for outcome in GAINS:
            arm, parent = (scores[scores["arm"] == name].set_index("seed")[outcome] for name in rung.pair)
            paired = (arm - parent).dropna()
            head = {"arm": rung.arm, "parent": rung.parent, "outcome": outcome}
            rows.append(head | vars(t_interval(paired.to_numpy(float))))
            seeds += [{"arm": rung.arm, "outcome": outcome, "seed": s, "gain": gain} for s, gain in paired.items()]
    return pd.DataFrame(rows), pd.DataFrame(seeds, columns=["arm", "outcome", "seed", "gain"])


@paper()
def draw_ladder(table: pd.DataFrame, seeds: pd.DataFrame, about: tuple[list[Rung], Styles]) -> Drawing:
    """A row per rung, axes per outcome; tables as `gains` gives them, and whether both arms are `identical`."""
    steps, styles = about
    drawing, axes = grid(len(GAINS), len(GAINS), 0.44 * len(steps) + 0.5, 0.3, sharey=True)
    names = [
        f"{styles[rung.arm].label} ({styles[rung.parent].label})\n{rung.setting} {word(rung.before)} "
        f"\N{RIGHTWARDS ARROW} {word(rung.after)}"
        for rung in steps
    ]
    for ax, (outcome, (title, label)) in zip(axes, GAINS.items(), strict=True):
        rows, dots = (one[one["outcome"] == outcome] for one in (table, seeds))
        for y, rung in enumerate(steps):
            _row(ax, y, rows[rows["arm"] == rung.arm].iloc[0], dots[dots["arm"] == rung.arm], styles)
        ax.set_title(title)
        ax.set_xlabel(label)
        zero_line(ax)
        ax.margins(x=0.06)
        name_rows(ax, names)
        ax.tick_params(axis="y", labelsize=7)
    legend(drawing, seed_and_mean("seed", "mean gain, 95 % t interval"))
    return drawing


def _row(ax: Axes, y: int, row: pd.Series, dots: pd.DataFrame, styles: Styles) -> None:
    if row["identical"]:
        ax.text(0.0, y, "  identical", va="center", size=7, color=styles[row["arm"]].color)
        ax.plot(0.0, y, "|", color=styles[row["arm"]].color)
        return
    draw_row(ax, y, row, list(dots["gain"]), styles[row["arm"]])
