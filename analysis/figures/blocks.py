"""Blocks of a study: arms over the levels of one or two varied settings, and what placebos have of a gain."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.canvas import (
    Axes,
    Drawing,
    arm_handles,
    draw_row,
    grid,
    legend,
    name_rows,
    scale_to,
    seed_and_mean,
    zero_line,
)
from analysis.figures.figure import Figure
from analysis.figures.style import INK, SOFT, ArmStyle, Look, Styles, arm_styles, paper
from analysis.formatting import bracket, plain, signed
from analysis.records.outcomes import OUTCOMES, scores_of
from analysis.records.search import word
from analysis.records.study import Block
from analysis.statistics.intervals import t_interval
from analysis.verdict.findings import Findings
from analysis.verdict.gains import Gains
from analysis.verdict.inert import acted_table
from analysis.verdict.levels import values_of

METRIC = "final_accuracy"
About = tuple[Block, dict[str, dict[str, str]], Styles]  # the block, its tick labels by setting, the arms' styles
SPREAD = 0.34  # of a level's place, shared by the arms


def level_figures(found: Findings) -> Iterator[Figure]:
    """A figure of each block that varies a setting and has scores."""
    styles = arm_styles(found.study)
    for block in found.study.blocks.values():
        scores = scores_of(found.scores, block.name)
        if not block.varied or scores.empty:
            continue
        table, names = levels(scores, block), level_names(found.scores, block)
        draw = draw_levels if len(block.varied) == 1 else draw_map
        told = "; ".join(
            f"{styles[row['arm']].label} at {row['level']} {plain(row['mean'])}" for _, row in table.iterrows()
        )
        yield Figure(
            f"levels_{block.name}",
            f"{block.name.replace('_', ' ')}: over {' and '.join(block.varied)}",
            f"{_caption(block, styles)} {scores['seed'].nunique()} seeds.",
            draw(table, scores, (block, names, styles)),
            {"seeds": scores[["arm", "level", "seed", METRIC, "collapsed"]].astype({"level": str}), "levels": table},
            f"Final accuracy by level: {told}.",
            f"{block.question} Collapsed: the run diverged or ended no better than it began. Never acted: in no run "
            "did the setting change the loss of a token at that value.",
        )


def _caption(block: Block, styles: Styles) -> str:
    if len(block.varied) > 1:
        return "Mean final accuracy over seeds at each pair of values."
    right = f"; right: each arm minus {styles[block.baseline].label}, seed by seed" if len(block.arms) > 1 else ""
    return f"Final accuracy over the values of {block.varied[0]}: seeds as thin lines, mean and 95 % t interval{right}."


def levels(scores: pd.DataFrame, block: Block) -> pd.DataFrame:
    """A row per arm and level: arm, level, place, mean, low, high, n, collapsed, and the paired difference to the
    baseline at the same level: difference, difference_low, difference_high."""
    rows = []
    for (arm, place), group in scores.groupby(["arm", "place"], sort=False):
        baseline = scores[(scores["arm"] == block.baseline) & (scores["place"] == place)].set_index("seed")[METRIC]
        paired = t_interval((group.set_index("seed")[METRIC] - baseline).dropna().to_numpy(float))
        rows.append(
            {"arm": arm, "level": level_word(block.levels[int(str(place))]), "place": place}
            | {**vars(t_interval(group[METRIC].to_numpy(float))), "collapsed": int(group["collapsed"].sum())}
            | {"difference": paired.mean, "difference_low": paired.low, "difference_high": paired.high}
        )
    return pd.DataFrame(rows)


def level_names(scores: pd.DataFrame, block: Block) -> dict[str, dict[str, str]]:
    """By varied setting, its values as words -> the same for a tick, with `never acted` where it changed no token."""
    acted = acted_table(scores, block)
    names: dict[str, dict[str, str]] = {}
    for setting in block.varied:
        shares = acted[acted["setting"] == setting].groupby("value")["share"].max()
        never = {word(value) for value, share in shares.items() if share == 0}
        values = dict.fromkeys(word(value) for value in values_of(block, setting))
        names[setting] = {value: value + ("\nnever acted" if value in never else "") for value in values}
    return names


def level_word(level: Any) -> str:
    """`0.0003`, or `0.2 and 3` for a pair."""
    return " and ".join(word(one) for one in level) if isinstance(level, tuple) else word(level)


@paper()
def draw_levels(table: pd.DataFrame, scores: pd.DataFrame, about: About) -> Drawing:
    """Over one setting: final accuracy, beside it the differences to the baseline, below them what collapsed.

    table: as `levels` gives it. scores: those of the block, drawn as a thin line per seed.
    """
    block, names, styles = about
    arms = {arm: styles[arm] for arm in block.arms if table["arm"].eq(arm).any()}
    fell = bool(table["collapsed"].any())
    columns, ratios = 2 if len(arms) > 1 else 1, [3, 1][: 1 + fell]
    drawing, axes = grid((1 + fell) * columns, columns, 1.95 if fell else 2.7, 0.3, height_ratios=ratios)
    above, below = axes[: len(axes) // (1 + fell)], axes[len(axes) // 2 :] if fell else []
    for place, (arm, style) in enumerate(arms.items()):
        rows = table[table["arm"] == arm]
        x = rows["place"] + SPREAD * (place / max(1, len(arms) - 1) - 0.5) * (len(arms) > 1)
        _line(above[0], x, rows[["mean", "low", "high"]], style)
        _seed_lines(above[0], scores[scores["arm"] == arm], style)
        if arm != block.baseline:
            _line(above[-1], x, rows[["difference", "difference_low", "difference_high"]], style)
        if fell:
            below[0].bar(x, rows["collapsed"], width=0.8 * SPREAD / len(arms), color=style.color)
    above[0].set_ylabel(OUTCOMES[METRIC].unit)
    scale_to(above[0], scores[METRIC])
    if len(arms) > 1:
        above[1].axhline(0.0, color=INK, linewidth=0.8)
        above[1].set_ylabel(f"minus {styles[block.baseline].label}, paired")
    if fell:
        below[0].set_ylabel(f"collapsed\nof {int(table['n'].max())}")
        below[-1].axis("off" if len(arms) > 1 else "on")
    (setting,) = block.varied
    for ax in axes:
        ax.set_xticks(range(len(block.levels)), list(names[setting].values()))
        ax.set_xlim(-0.6, len(block.levels) - 0.4)
        ax.set_xlabel(setting)
    legend(drawing, arm_handles(arms))
    return drawing


def _line(ax: Axes, x: pd.Series, rows: pd.DataFrame, style: ArmStyle) -> None:
    mean, low, high = (rows[name] for name in rows)
    ax.vlines(x, low, high, color=style.color, linewidth=1.6, zorder=2)
    look: Look = {"color": style.color, "linestyle": style.linestyle, "marker": style.marker, "linewidth": 1.0}
    ax.plot(x, mean, zorder=3, **look)


def _seed_lines(ax: Axes, scores: pd.DataFrame, style: ArmStyle) -> None:
    for _, of_seed in scores.sort_values("place").groupby("seed"):
        ax.plot(of_seed["place"], of_seed[METRIC], ".-", color=style.color, linewidth=0.5, markersize=3, alpha=0.35)


@paper()
def draw_map(table: pd.DataFrame, _: pd.DataFrame, about: About) -> Drawing:
    """Over two settings: a heat map per arm, each cell with its mean."""
    _block, names, styles = about
    arms = list(dict.fromkeys(table["arm"]))
    (first, xs), (second, ys) = ((setting, list(values)) for setting, values in names.items())
    drawing, axes = grid(len(arms), len(arms), 0.42 * len(ys) + 1.2)
    low, high = float(table["mean"].min()), float(table["mean"].max())
    for ax, arm in zip(axes, arms, strict=True):
        cells = table[table["arm"] == arm].set_index("level")["mean"]
        heights = np.array([[cells.get(f"{x} and {y}", np.nan) for x in xs] for y in ys])
        image = ax.imshow(heights, aspect="auto", origin="lower", vmin=low, vmax=high, cmap="cividis")
        for (row, column), value in np.ndenumerate(heights):
            color = "white" if value < (low + high) / 2 else "black"
            ax.text(column, row, plain(float(value)), ha="center", va="center", size=7, color=color)
        ax.set_xticks(range(len(xs)), list(names[first].values()))
        ax.set_yticks(range(len(ys)), list(names[second].values()))
        ax.set(xlabel=first, ylabel=second)
        ax.set_title(styles[arm].label)
        ax.grid(visible=False)
    drawing.colorbar(image, ax=axes, label=OUTCOMES[METRIC].unit)
    return drawing


def gain_figures(found: Findings) -> Iterator[Figure]:
    """A figure for each block that has placebos."""
    styles = arm_styles(found.study)
    for item in found.gains:
        shares = pd.DataFrame([{"arm": arm, **vars(share), "words": share.words} for arm, share in item.shares.items()])
        told = [
            f"{styles[row['arm']].label} {signed(row['mean'])} {bracket(row['low'], row['high'])}"
            for _, row in item.means.iterrows()
        ]
        bounded = not shares.empty and bool(shares["low"].notna().any())
        right = f"; right: its share of the gain of {styles[item.whole].label}" if bounded else ""
        yield Figure(
            f"gains_{item.block}",
            f"{item.block.replace('_', ' ')}: what is left of a gain in a placebo",
            f"Gain over {styles[item.baseline].label}, seed by seed, with mean and 95 % t interval of the paired "
            f"differences{right}.",
            draw_gains(item, shares if bounded else None, styles),
            {"gains": item.gains, "means": item.means, "shares": shares},
            f"Gains over {styles[item.baseline].label}: {'; '.join(told)}.",
            "Shares are ratios of two paired mean gains, with Fieller's interval (1954); where the gain itself is not "
            "distinguishable from 0 there is no bounded interval and none is drawn.",
        )


@paper()
def draw_gains(item: Gains, shares: pd.DataFrame | None, styles: Styles) -> Drawing:
    """A row per arm; shares: arm, share, low, high, beside them where there are any."""
    arms, columns = list(item.means["arm"]), 1 if shares is None else 2
    drawing, axes = grid(columns, columns, 0.6 + 0.42 * len(arms), 0.3, sharey=columns == 2)
    for y, arm in enumerate(arms):
        values = list(item.gains.loc[item.gains["arm"] == arm, "gain"])
        draw_row(axes[0], y, item.means[item.means["arm"] == arm].iloc[0], values, styles[arm])
    zero_line(axes[0])
    axes[0].set_xlabel(f"gain in {OUTCOMES[item.metric].unit}")
    if shares is not None:
        _shares(axes[1], shares.rename(columns={"share": "mean"}), arms, styles)
        axes[1].set_xlabel(f"share of the gain of {styles[item.whole].label}")
    name_rows(axes[0], [styles[arm].label for arm in arms])
    legend(drawing, seed_and_mean("seed", "mean gain, 95 % interval"))
    return drawing


def _shares(ax: Axes, shares: pd.DataFrame, arms: list[str], styles: Styles) -> None:
    for _, row in shares.iterrows():
        if np.isfinite(row["low"]):
            draw_row(ax, arms.index(row["arm"]), row, [], styles[row["arm"]])
    zero_line(ax)
    ax.axvline(1.0, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
