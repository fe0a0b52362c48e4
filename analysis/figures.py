"""Figures of the course of training: learning curves, dynamics, and accuracy against generated tokens.

Each is a function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from analysis.panels import draw_curves, grid, legend, percent, whole_steps
from analysis.style import arm_styles, paper

# quantity: (title, unit on the y axis, ticks in percent)
PANELS = {
    "rollout/accuracy": ("Training accuracy", "share of rollouts correct", False),
    "evaluation/accuracy": ("Evaluation accuracy", "share of answers correct", False),
    "rollout/response_tokens_mean": ("Response length", "tokens per response", False),
    "rollout/entropy": ("Entropy", "nats per token", False),
    "loss/influence_weight": ("Mean influence weight", "weight (1 = no change)", False),
    "loss/kl_to_old": ("KL to the old policy", "nats per token", False),
    "optimizer/grad_norm": ("Gradient norm", "norm before clipping", False),
    "rollout/informative_groups_share": ("Informative prompts", "share of prompts", False),
    "loss/clip_fraction_low": ("Stopped by lower clip", "trained tokens", True),
    "loss/clip_fraction_high": ("Stopped by upper clip", "trained tokens", True),
    "loss/clip_fraction_dual": ("Stopped by dual clip", "trained tokens", True),
    "rollout/sampling_rounds": ("Sampling rounds", "rounds per step", False),
    "rollout/truncated_share": ("Cut off at the limit", "responses", True),
}


@paper()
def learning_curves(curves: pd.DataFrame, bands: pd.DataFrame, quantities: tuple[str, ...]) -> Figure:
    """Small multiples over the training step, a panel per quantity, the legend in the last."""
    figure, axes = _step_panels(curves, bands, quantities, (2, 3))
    weight = axes[quantities.index("loss/influence_weight")]
    if not curves["quantity"].eq("loss/influence_weight").any():
        weight.set_title("Influence weight: FIPO only")
        return figure
    weight.axhline(1.0, color="#333333", linewidth=0.8, linestyle=":")
    low, high = weight.get_ylim()
    weight.set_ylim(min(low, 1.0 - 0.1 * (high - 1.0)), high)
    weight.text(
        0.98,
        1.0,
        "other losses: 1 by definition",
        transform=weight.get_yaxis_transform(),
        ha="right",
        va="bottom",
        size=6.5,
    )
    return figure


@paper()
def training_dynamics(curves: pd.DataFrame, bands: pd.DataFrame, quantities: tuple[str, ...]) -> Figure:
    """The same for what the optimizer and the sampler did."""
    figure, _ = _step_panels(curves, bands, quantities, (3, 3))
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


def _step_panels(
    curves: pd.DataFrame, bands: pd.DataFrame, quantities: tuple[str, ...], shape: tuple[int, int]
) -> tuple[Figure, list[Axes]]:
    figure, axes = grid(*shape, height=2.05 * shape[0] + 0.2)
    styles = arm_styles(list(dict.fromkeys(curves["arm"])))
    for ax, quantity in zip(axes, quantities, strict=False):
        draw_curves(ax, curves[curves["quantity"] == quantity], bands[bands["quantity"] == quantity], styles)
        _label(ax, quantity)
        ax.set_xlabel("training step")
        whole_steps(ax)
    legend(figure, styles, axes[len(quantities)])
    return figure, axes


def _label(ax: Axes, quantity: str) -> None:
    title, unit, in_percent = PANELS[quantity]
    ax.set_title(title)
    ax.set_ylabel(unit)
    if in_percent and ax.get_lines():
        percent(ax)
