"""Placebos: the gain of every arm of a block over its baseline, seed by seed, and how much of it each placebo has."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.figures.canvas import Axes, Drawing, draw_row, grid, name_rows, seed_and_mean, zero_line
from analysis.figures.figure import Figure
from analysis.figures.style import SOFT, Styles, arm_styles, paper
from analysis.formatting import bracket, signed
from analysis.records.outcomes import OUTCOMES
from analysis.verdict.findings import Findings
from analysis.verdict.gains import Gains


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
            {"gains": item.gains, "means": item.means, "shares": shares, "course": item.course},
            f"Gains over {styles[item.baseline].label}: {'; '.join(told)}.",
            "Shares are ratios of two paired mean gains, with Fieller's interval (1954); where the gain itself is not "
            "distinguishable from 0 there is no bounded interval and none is drawn.",
        )


@paper()
def draw_gains(item: Gains, shares: pd.DataFrame | None, styles: Styles) -> Drawing:
    """A row per arm; shares: arm, share, low, high, beside them where there are any."""
    arms, columns = list(item.means["arm"]), 1 if shares is None else 2
    drawing, axes = grid(1, columns, 0.9 + 0.42 * len(arms), sharey=columns == 2)
    for y, arm in enumerate(arms):
        values = list(item.gains.loc[item.gains["arm"] == arm, "gain"])
        draw_row(axes[0], y, item.means[item.means["arm"] == arm].iloc[0], values, styles[arm])
    zero_line(axes[0])
    axes[0].set_xlabel(f"gain in {OUTCOMES[item.metric].unit}")
    if shares is not None:
        _shares(axes[1], shares.rename(columns={"share": "mean"}), arms, styles)
        axes[1].set_xlabel(f"share of the gain of {styles[item.whole].label}")
    name_rows(axes[0], [styles[arm].label for arm in arms])
    drawing.legend(handles=seed_and_mean("mean gain, 95 % interval"), loc="outside upper center", ncols=2)
    return drawing


def _shares(ax: Axes, shares: pd.DataFrame, arms: list[str], styles: Styles) -> None:
    for _, row in shares.iterrows():
        if np.isfinite(row["low"]):
            draw_row(ax, arms.index(row["arm"]), row, [], styles[row["arm"]])
    zero_line(ax)
    ax.axvline(1.0, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
