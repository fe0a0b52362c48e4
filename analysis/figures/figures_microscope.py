"""Figures of FIPO's weights: responses token by token, and the weights by place, sign and time.

Each is a function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.canvas import grid, whole_steps
from analysis.figures.style import LineStyle, arm_styles, paper

MOST_TOKENS = 48
DARK = 0.35  # of the colour scale, from its middle: beyond it black letters are hard to read
COLORS = "PuOr_r"  # diverging, told apart with every common colour blindness; white is a weight of 1
SIGNS = {1: "advantage above 0", -1: "advantage below 0"}
DASHES: dict[int, LineStyle] = {1: "-", -1: (0, (2, 1.2))}


@paper()
def token_view(tokens: pd.DataFrame, reach: float) -> Figure:
    """A row of panels per time, right beside wrong: tokens coloured by influence weight, log-ratio and Future-KL below.

    tokens: time, verdict, step, position, text, log_ratio, future_kl, influence_weight, prompt, target, advantage.
    reach: the distance from 1 at which the colour is full.
    """
    times = list(dict.fromkeys(tokens["time"]))
    figure = Figure(figsize=(7.2, 1.55 * len(times) + 0.5), layout="constrained")
    outer = figure.subplots(2 * len(times), 2, squeeze=False, gridspec_kw={"height_ratios": [0.5, 1] * len(times)})
    norm = Normalize(1 - reach, 1 + reach)
    traces = tokens[["log_ratio", "future_kl"]].to_numpy(float)
    limit = 1.1 * float(np.nanmax(np.abs(traces))) or 1.0
    for row, time in enumerate(times):
        for column, verdict in enumerate(("right", "wrong")):
            rows = tokens[(tokens["time"] == time) & (tokens["verdict"] == verdict)].iloc[:MOST_TOKENS]
            cells, trace = outer[2 * row, column], outer[2 * row + 1, column]
            _cells(cells, rows, norm)
            _traces(trace, rows, limit)
            if column:
                trace.set_yticklabels([])
    colors = ScalarMappable(norm, COLORS)
    bar = figure.colorbar(colors, ax=outer, location="right", shrink=0.5, aspect=30, pad=0.01)
    bar.set_label("influence weight")
    lines = [
        Line2D([], [], color="#333333", linewidth=1.2, label="Future-KL"),
        Line2D([], [], color="#0072B2", linewidth=3, alpha=0.6, label="log-ratio"),
    ]
    figure.legend(handles=lines, loc="outside upper center", ncols=2)
    return figure


@paper()
def weight_profiles(start: pd.DataFrame, end: pd.DataFrame, signs: pd.DataFrame, distributions: pd.DataFrame) -> Figure:
    """Mean weight by position from the start and from the end, by sign over training, and the distribution by sign."""
    figure, axes = grid(2, 2, 4.9)
    styles = arm_styles(list(dict.fromkeys(start["arm"])))
    for ax, table, title in ((axes[0], start, "By position"), (axes[1], end, "By distance to the end")):
        for arm, style in styles.items():
            rows = table[table["arm"] == arm]
            ax.fill_between(rows["position"], rows["low"], rows["high"], color=style.color, alpha=0.15, linewidth=0)
            ax.plot(rows["position"], rows["mean"], color=style.color, marker=style.marker, label=style.label)
        ax.set_title(title)
        ax.set_xlabel("token" if ax is axes[0] else "tokens before the last")
    for arm, style in styles.items():
        for sign, dash in DASHES.items():
            rows = signs[(signs["arm"] == arm) & (signs["sign"] == sign)]
            axes[2].plot(rows["step"], rows["mean"], color=style.color, linestyle=dash)
            axes[2].fill_between(rows["step"], rows["low"], rows["high"], color=style.color, alpha=0.1, linewidth=0)
            spread = distributions[(distributions["arm"] == arm) & (distributions["sign"] == sign)]
            axes[3].plot(spread["weight"], spread["share"], color=style.color, linestyle=dash)
    axes[2].set_title("By sign of the advantage, over training")
    axes[2].set_xlabel("training step")
    whole_steps(axes[2])
    axes[3].set_title("Distribution by sign of the advantage")
    axes[3].set_xlabel("influence weight")
    axes[3].set_ylabel("share of tokens at or below")
    for ax in axes[:3]:
        ax.set_ylabel("mean influence weight")
        ax.axhline(1.0, color="#333333", linewidth=0.8, linestyle=":")
    for ax, table in zip(axes, (start, end, signs), strict=False):
        _clip_to_means(ax, table)
    handles = [Line2D([], [], color=style.color, marker=style.marker, label=style.label) for style in styles.values()]
    handles += [Line2D([], [], color="#555555", linestyle=dash, label=SIGNS[sign]) for sign, dash in DASHES.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _cells(ax: Axes, rows: pd.DataFrame, norm: Normalize) -> None:
    weights = rows["influence_weight"].to_numpy(float)[None, :]
    ax.imshow(weights, cmap=COLORS, norm=norm, aspect="auto", extent=(-0.5, len(rows) - 0.5, 0, 1))
    for place, (text, shade) in enumerate(zip(rows["text"], norm(weights[0]), strict=True)):
        label = ax.text(place, 0.48, _shown(str(text)), ha="center", va="center", size=6.5, family="DejaVu Sans Mono")
        label.set_color("white" if abs(float(shade) - 0.5) > DARK else "black")
    head = rows.iloc[0]
    cut = ", cut" if len(rows) == MOST_TOKENS else ""
    ax.set_title(
        f"step {head['step']}, {head['verdict']}{cut}: {_short(head['prompt'])} = {head['target']}, "
        f"A {float(head['advantage']):+.2f}",
        fontsize=6.5,
    )
    ax.set_xlim(-0.5, MOST_TOKENS - 0.5)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for side in ax.spines.values():
        side.set_visible(False)


def _traces(ax: Axes, rows: pd.DataFrame, limit: float) -> None:
    places = np.arange(len(rows))
    ax.bar(places, rows["log_ratio"], color="#0072B2", alpha=0.6, width=0.8)
    ax.plot(places, rows["future_kl"], color="#333333", linewidth=1.0)
    ax.axhline(0.0, color="#333333", linewidth=0.6)
    ax.set_ylim(-limit, limit)
    ax.set_xlim(-0.5, MOST_TOKENS - 0.5)
    ax.set_xticks([])
    ax.tick_params(labelsize=6)


def _clip_to_means(ax: Axes, rows: pd.DataFrame) -> None:
    """The means, where there are any, set the scale: an interval over three seeds may dwarf everything else."""
    if rows.empty:
        return
    low, high = float(rows["mean"].min()), float(rows["mean"].max())
    room = 0.15 * (high - low) or 0.01
    ax.set_ylim(min(low, 1.0) - room, max(high, 1.0) + room)


def _shown(text: str) -> str:
    return "\N{OPEN BOX}" if text.isspace() else text.replace("$", r"\$")[:4]


def _short(prompt: object) -> str:
    text = str(prompt).replace("$", r"\$").strip(":")
    return text if len(text) <= 26 else f"{text[:25]}\N{HORIZONTAL ELLIPSIS}"
