"""The figures of a study of several blocks: functions from tidy tables to a matplotlib Figure."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from analysis.figures.canvas import draw_dots, draw_interval, grid, name_rows
from analysis.figures.style import ArmStyle, arm_styles, paper
from analysis.formatting import scientific
from analysis.statistics.intervals import t_interval

RATE = "learning rate"
ACCURACY = "final accuracy"
PART_COLORS = {
    "warm_start": "#0072B2",
    "seed": "#E69F00",
    "prompt": "#56B4E9",
    "seed_prompt": "#009E73",
    "sample": "#999999",
}
PART_NAMES = {
    "warm_start": "warm start",
    "seed": "training seed",
    "prompt": "evaluation prompts",
    "seed_prompt": "prompts x seed",
    "sample": "samples of an answer",
}


@paper()
def over_rates(panels: Mapping[str, pd.DataFrame], starts: float, dots: pd.DataFrame | None, beside: str) -> Figure:
    """Final accuracy over learning rates, a panel per block: every seed, mean and 95 % t interval.

    panels: by title, rows of arm, level, seed, final_accuracy. starts: accuracy before training. dots: rows of arm and
    final_accuracy, of arms at one setting, for a panel at the right, titled `beside`.
    """
    extra = 0 if dots is None else 1
    widths = [1.0] * len(panels) + [1.15] * extra
    figure, axes = grid(1, len(widths), 3.1, width_ratios=widths)
    arms = list(dict.fromkeys(arm for rows in panels.values() for arm in rows["arm"]))
    styles = arm_styles(arms)
    for ax, (title, rows) in zip(axes, panels.items(), strict=False):
        for place, arm in enumerate(dict.fromkeys(rows["arm"])):
            shift = 2 ** (0.09 * (place - (rows["arm"].nunique() - 1) / 2))
            _curve(ax, rows[rows["arm"] == arm], styles[arm], shift)
        _rates(ax, sorted(set(rows["level"])), starts)
        ax.set_title(title)
    axes[0].set_ylabel(ACCURACY)
    if dots is not None:
        arm_rows(axes[-1], dots, "final_accuracy")
        axes[-1].set_xlabel(ACCURACY)
        axes[-1].set_title(beside)
        axes[-1].set_xlim(0, 1)
        axes[-1].axvline(starts, color="#777777", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    handles = [
        Line2D([], [], color=style.color, linestyle=style.linestyle, marker=style.marker, label=style.label)
        for style in styles.values()
    ]
    handles.append(
        Line2D(
            [], [], linestyle="", marker="o", color="#888888", markerfacecolor="none", markersize=3, label="one seed"
        )
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=6)
    return figure


@paper()
def gains(rows: pd.DataFrame, label: str, shares: pd.DataFrame | None = None, share_label: str = "") -> Figure:
    """Each arm's gain, seed by seed, with mean and interval; at the right the share of a gain that is left.

    rows: arm, seed, gain. shares: arm, share, low, high, without ends where there is no interval.
    """
    count = rows["arm"].nunique()
    figure, axes = grid(1, 1 if shares is None else 2, 1.0 + 0.42 * count, sharey=shares is not None)
    arm_rows(axes[0], rows.rename(columns={"gain": "value"}), "value")
    axes[0].axvline(0, color="#333333", linewidth=0.8)
    axes[0].set_xlabel(label)
    if shares is not None:
        styles, places = arm_styles(list(dict.fromkeys(rows["arm"]))), list(dict.fromkeys(rows["arm"]))
        for _, row in shares.iterrows():
            draw_interval(axes[1], row.rename({"share": "mean"}), places.index(row["arm"]), styles[row["arm"]])
        for at in (0, 1):
            axes[1].axvline(at, color="#333333", linewidth=0.8, linestyle="-" if at == 0 else (0, (4, 3)))
        axes[1].set_xlabel(share_label)
        axes[1].tick_params(axis="y", length=0)
        axes[1].grid(visible=False, axis="y")
    return figure


def arm_rows(ax: Axes, rows: pd.DataFrame, column: str) -> None:
    """A row per arm: every seed as a dot, mean and 95 % t interval above them."""
    arms = list(dict.fromkeys(rows["arm"]))
    styles = arm_styles(arms)
    for place, arm in enumerate(arms):
        values = rows.loc[rows["arm"] == arm, column].to_numpy(float)
        draw_interval(ax, pd.Series(vars(t_interval(values))), place, styles[arm])
        draw_dots(ax, values.tolist(), place, styles[arm])
    name_rows(ax, [styles[arm].label for arm in arms])


@paper()
def grids(panels: Mapping[str, pd.DataFrame], arm: str) -> Figure:
    """Final accuracy over each varied setting, every seed a line, mean and 95 % t interval; below, where it acted.

    panels: by setting, rows of level, seed, final_accuracy, acted (share of tokens).
    """
    figure, axes = grid(2, len(panels), 3.9, height_ratios=[2.2, 1.0], sharex="col")
    style = arm_styles([arm])[arm]
    for place, (name, rows) in enumerate(panels.items()):
        upper, lower = axes[place], axes[len(panels) + place]
        for _, of_seed in rows.sort_values("level").groupby("seed"):
            upper.plot(
                of_seed["level"], of_seed["final_accuracy"], ".-", color="#999999", linewidth=0.6, markersize=3.5
            )
        _curve(upper, rows, style, 1.0, dots=False)
        upper.set_ylim(0, 1)
        acted = rows.groupby("level")["acted"].mean()
        lower.plot(acted.index, 100 * acted, color=style.color, marker=style.marker)
        lower.set_ylim(0, 112 * max(float(acted.max()), 1e-3))
        levels = sorted(set(rows["level"]))
        lower.set_xscale("log")
        lower.set_xticks(levels, [f"{level:g}" for level in levels])
        lower.xaxis.set_minor_locator(NullLocator())
        lower.set_xlabel(name)
    axes[0].set_ylabel(ACCURACY)
    axes[len(panels)].set_ylabel("% of tokens\nit acted on")
    return figure


@paper()
def variance_bars(rows: pd.DataFrame) -> Figure:
    """Stacked bars of variance components as shares of their sum. rows: what, part, share."""
    names = list(dict.fromkeys(rows["what"]))
    figure, (ax,) = grid(1, 1, 0.9 + 0.45 * len(names))
    for place, name in enumerate(names):
        left = 0.0
        for _, row in rows[rows["what"] == name].iterrows():
            ax.barh(place, row["share"], left=left, height=0.62, color=PART_COLORS[row["part"]], edgecolor="white")
            if row["share"] > 0.06:
                ax.text(left + row["share"] / 2, place, f"{100 * row['share']:.0f} %", ha="center", va="center", size=7)
            left += row["share"]
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("share of the variance")
    handles = [
        Line2D([], [], linestyle="", marker="s", markersize=7, color=PART_COLORS[part], label=PART_NAMES[part])
        for part in PART_COLORS
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, handlelength=1.0, columnspacing=1.2)
    return figure


def _curve(ax: Axes, rows: pd.DataFrame, style: ArmStyle, shift: float, dots: bool = True) -> None:
    """Means over levels with intervals; `shift` moves the marks aside so that arms do not hide each other."""
    levels = sorted(set(rows["level"]))
    each = [t_interval(rows.loc[rows["level"] == level, "final_accuracy"].to_numpy(float)) for level in levels]
    x = np.array(levels, dtype=float) * shift
    ax.plot(x, [one.mean for one in each], color=style.color, linestyle=style.linestyle, marker=style.marker, zorder=4)
    ax.vlines(x, [one.low for one in each], [one.high for one in each], color=style.color, linewidth=1.3, zorder=3)
    if dots:
        at = rows["level"].to_numpy(float) * shift
        ax.plot(
            at,
            rows["final_accuracy"],
            "o",
            color=style.color,
            markerfacecolor="none",
            markersize=2.4,
            markeredgewidth=0.5,
            alpha=0.6,
        )


def _rates(ax: Axes, levels: Sequence[float], starts: float) -> None:
    ax.set_xscale("log")
    ax.set_xticks(levels, [scientific(level) for level in levels], rotation=30)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(RATE)
    ax.set_ylim(0, 1)
    ax.axhline(starts, color="#777777", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
