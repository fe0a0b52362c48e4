"""Figures of the course of training: quantities over steps, prompts, tokens, seconds or FLOPs, a panel each.

Each is a function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from analysis.figures.canvas import draw_curves, grid, legend, percent, whole_steps
from analysis.figures.style import arm_styles, paper

# quantity: (title, unit on the y axis, ticks in percent)
PANELS = {
    "rollout/accuracy": ("Training accuracy", "share of rollouts correct", False),
    "evaluation/accuracy": ("Evaluation accuracy", "share of answers correct", False),
    "rollout/reward_mean": ("Reward", "mean per response", False),
    "rollout/response_tokens_mean": ("Response length", "tokens per response", False),
    "rollout/response_tokens_min": ("Shortest response", "tokens", False),
    "rollout/response_tokens_q25": ("Lower quartile of length", "tokens", False),
    "rollout/response_tokens_median": ("Median length", "tokens", False),
    "rollout/response_tokens_q75": ("Upper quartile of length", "tokens", False),
    "rollout/response_tokens_max": ("Longest response", "tokens", False),
    "rollout/entropy": ("Entropy", "nats per token", False),
    "loss/influence_weight": ("Mean influence weight", "weight (1 = no change)", False),
    "loss/influence_weight_at_low": ("Weights cut at lower bound", "trained tokens", True),
    "loss/influence_weight_at_high": ("Weights cut at upper bound", "trained tokens", True),
    "loss/influence_weight_moved": ("Weights further than .001 from 1", "trained tokens", True),
    "loss/safety_fraction": ("Safety rule acts", "trained tokens", True),
    "loss/kl_to_old": ("KL to the old policy", "nats per token", False),
    "optimizer/grad_norm": ("Gradient norm", "norm before clipping", False),
    "rollout/informative_groups_share": ("Informative prompts", "share of prompts", False),
    "rollout/length_weighted_advantage": ("Length-weighted advantage", "mean over trained tokens", False),
    "loss/clip_fraction_low": ("Stopped by lower clip", "trained tokens", True),
    "loss/clip_fraction_high": ("Stopped by upper clip", "trained tokens", True),
    "loss/clip_fraction_dual": ("Stopped by dual clip", "trained tokens", True),
    "rollout/sampling_rounds": ("Sampling rounds", "rounds per step", False),
    "rollout/truncated_share": ("Cut off at the limit", "responses", True),
}
AXIS_LABELS = {
    "steps": "training step",
    "prompts": "prompts",
    "generated_tokens": "generated tokens, discarded too",
    "seconds": "seconds",
    "flops": "FLOPs (estimated)",
}
COLUMNS, ROW_HEIGHT, MOST_IN_PANEL = 3, 2.05, 6


def panel(quantity: str) -> tuple[str, str, bool]:
    """Title, unit, and whether ticks are in percent; `quantity: benchmark` is what a quantity is on that one alone."""
    name, _, benchmark = quantity.partition(": ")
    title, unit, in_percent = PANELS[name]
    return (f"{title}, {benchmark}" if benchmark else title), unit, in_percent


@paper()
def learning_curves(curves: pd.DataFrame, bands: pd.DataFrame, quantities: Sequence[str], axis: str) -> Figure:
    """The small multiples of a first look, with the place of the losses that have no influence weight marked."""
    figure, axes = _panels(curves, bands, quantities, axis)
    weight = axes[list(quantities).index("loss/influence_weight")]
    if not curves["quantity"].eq("loss/influence_weight").any():
        weight.set_title("Influence weight: FIPO only")
        return figure
    weight.axhline(1.0, color="#333333", linewidth=0.8, linestyle=":")
    low, high = weight.get_ylim()
    weight.set_ylim(min(low, 1.0 - 0.1 * (high - 1.0)), high)
    place = weight.get_yaxis_transform()
    weight.text(0.98, 1.0, "other losses: 1 by definition", transform=place, ha="right", va="bottom", size=6.5)
    return figure


@paper()
def small_multiples(
    curves: pd.DataFrame,
    bands: pd.DataFrame,
    quantities: Sequence[str],
    axis: str,
    references: pd.DataFrame | None = None,
) -> Figure:
    """A panel per quantity over one axis, the legend in the last. references: quantity, label, value, as grey lines."""
    figure, axes = _panels(curves, bands, quantities, axis)
    if references is not None:
        for number, (_, row) in enumerate(references.iterrows()):
            ax = axes[list(quantities).index(row["quantity"])]
            ax.axhline(row["value"], color="#777777", linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
            place = ax.get_yaxis_transform()
            x, side = ((0.02, "left"), (0.98, "right"))[number % 2]  # neighbours may lie close together
            ax.text(x, row["value"], row["label"], transform=place, va="bottom", ha=side, size=6, color="#555555")
            low, high = ax.get_ylim()
            ax.set_ylim(min(low, row["value"] - 0.02), max(high, row["value"] + 0.04))
    return figure


@paper()
def accuracy_against_tokens(curves: pd.DataFrame, bands: pd.DataFrame) -> Figure:
    """Training and evaluation accuracy over the tokens generated until then."""
    figure, axes = grid(1, 2, 3.2, sharey=True)
    styles = arm_styles(list(dict.fromkeys(curves["arm"])))
    for ax, quantity in zip(axes, ("rollout/accuracy", "evaluation/accuracy"), strict=True):
        draw_curves(ax, curves[curves["quantity"] == quantity], bands[bands["quantity"] == quantity], styles)
        _label(ax, quantity)
        ax.set_xlabel("generated tokens, discarded ones included")
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    legend(figure, styles)
    return figure


def _panels(
    curves: pd.DataFrame, bands: pd.DataFrame, quantities: Sequence[str], axis: str
) -> tuple[Figure, list[Axes]]:
    """Panels in rows of three; the legend stands in a free one, or above where it has no room."""
    styles = arm_styles(list(dict.fromkeys(curves["arm"])))
    rows, places = -(-len(quantities) // COLUMNS), -len(quantities) % COLUMNS
    above = not places or len(styles) > MOST_IN_PANEL
    figure, axes = grid(rows, COLUMNS, height=ROW_HEIGHT * rows + (0.4 + 0.16 * -(-len(styles) // 3) if above else 0.2))
    for ax, quantity in zip(axes, quantities, strict=False):
        draw_curves(ax, curves[curves["quantity"] == quantity], bands[bands["quantity"] == quantity], styles)
        _label(ax, quantity)
        if ax.get_lines():
            _label_axis(ax, axis)
    for ax in axes[len(quantities) :]:
        ax.axis("off")
    legend(figure, styles, None if above else axes[len(quantities)])
    return figure, axes


def _label(ax: Axes, quantity: str) -> None:
    title, unit, in_percent = panel(quantity)
    ax.set_title(title)
    ax.set_ylabel(unit)
    if in_percent and ax.get_lines():
        percent(ax)


def _label_axis(ax: Axes, axis: str) -> None:
    ax.set_xlabel(AXIS_LABELS[axis])
    if axis == "steps":
        whole_steps(ax)
    else:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
