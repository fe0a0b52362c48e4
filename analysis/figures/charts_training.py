"""The charts of the course of training, on the axis that the reader chose."""

from collections.abc import Sequence

import pandas as pd

from analysis.figures.chart import Chart
from analysis.figures.style import arm_label
from analysis.figures.training import AXIS_LABELS, accuracy_against_tokens, learning_curves, panel, small_multiples
from analysis.formatting import plain
from analysis.records.curves import LEARNING, mean_curves, seed_curves
from analysis.records.outcomes import token_budget, token_curves
from analysis.verdict.findings import Findings, seed_counts

DYNAMICS = (
    "rollout/reward_mean",
    "loss/kl_to_old",
    "optimizer/grad_norm",
    "rollout/informative_groups_share",
    "rollout/sampling_rounds",
    "rollout/length_weighted_advantage",
    "rollout/truncated_share",
)
LENGTHS = tuple(f"rollout/response_tokens_{part}" for part in ("min", "q25", "median", "mean", "q75", "max"))
CLIPPING = (
    "loss/clip_fraction_low",
    "loss/clip_fraction_high",
    "loss/clip_fraction_dual",
    "loss/influence_weight",
    "loss/influence_weight_at_low",
    "loss/influence_weight_at_high",
    "loss/influence_weight_moved",
    "loss/safety_fraction",
)
EVERY_SEED = (
    "Thin lines: every seed. Thick line and band: mean and 95 % t interval over seeds; the seeds set the scale, and a "
    "band that leaves it is cut."
)


def learning_chart(found: Findings) -> Chart:
    """Accuracy, length, entropy and influence weight: the first look."""
    axis = found.axis
    curves = seed_curves(found.study, LEARNING, axis)
    means = mean_curves(curves, axis)
    return Chart(
        "learning_curves",
        "Learning curves",
        f"{EVERY_SEED} Rollout quantities are over the first sampling round of a step, whose prompts and random "
        "numbers are the same in every arm. The primary outcome is the mean of the first panel's curve over the steps. "
        f"The influence weight exists in FIPO only; in the other losses it is 1 by definition. {seed_counts(found)}",
        learning_curves(curves, means, LEARNING, axis),
        {"seeds": curves, "means": means},
        f"Small multiples over the {AXIS_LABELS[axis]}. {ends(means, 'rollout/accuracy')} "
        f"{ends(means, 'rollout/response_tokens_mean')}",
    )


def dynamics_chart(found: Findings) -> Chart:
    """What the optimizer and the sampler did."""
    return _chart(
        found,
        ("training_dynamics", "Training dynamics"),
        DYNAMICS,
        "Reward includes the overlong penalty. KL: mean of log pi_old - log pi over trained tokens. Informative "
        "prompts: those whose responses do not all score the same. Length-weighted advantage: sum of advantages over "
        "trained tokens by their number. Losses themselves are not shown: their values are not comparable.",
    )


def lengths_chart(found: Findings) -> Chart:
    """The distribution of response lengths."""
    words = "Lengths of the first sampling round's responses, the end token and those cut off included."
    return _chart(found, ("response_lengths", "Response lengths"), LENGTHS, words)


def clipping_chart(found: Findings) -> Chart:
    """What clips and influence weights did."""
    return _chart(
        found,
        ("clipping_and_weights", "Clips and influence weights"),
        CLIPPING,
        "Stopped by a clip: trained tokens whose gradient that clip stopped, over all updates of a step. Influence "
        "weights exist in FIPO only; their first update of a step has none, since all ratios are 1 there.",
    )


def tokens_chart(found: Findings) -> Chart | None:
    """Accuracy over generated tokens, whatever the axis of the others."""
    curves = seed_curves(found.study, ("rollout/accuracy", "evaluation/accuracy"), "generated_tokens")
    means = mean_curves(curves, "generated_tokens")
    budget = token_budget(found.study, token_curves(found.study))
    return Chart(
        "accuracy_against_tokens",
        "Accuracy against generated tokens",
        f"{EVERY_SEED} The x axis counts every token that was sampled for training, those of discarded groups too, "
        "until the policy was reached; evaluations are left out. Equal steps flatter an arm that writes longer or "
        "discards more; equal tokens do not. Every run of the losses has generated at least "
        f"{plain(budget / 1000, 0)} thousand tokens: the table compares evaluation accuracy there. "
        f"{seed_counts(found)}",
        accuracy_against_tokens(curves, means),
        {"seeds": curves, "means": means},
        f"Accuracy over generated tokens. {ends(means, 'evaluation/accuracy')}",
    )


def _chart(found: Findings, head: tuple[str, str], quantities: Sequence[str], words: str) -> Chart:
    name, title = head
    curves = seed_curves(found.study, quantities, found.axis)
    means = mean_curves(curves, found.axis)
    return Chart(
        name,
        title,
        f"{EVERY_SEED} {words} {seed_counts(found)}",
        small_multiples(curves, means, quantities, found.axis),
        {"seeds": curves, "means": means},
        alt(means, quantities, found.axis),
    )


def alt(means: pd.DataFrame, quantities: Sequence[str], axis: str) -> str:
    """The panels in words: what each arm's first quantity ends at, and what else is shown."""
    recorded = [name for name in quantities if means["quantity"].eq(name).any()]
    titles = ", ".join(panel(name)[0].lower() for name in recorded) or "nothing that was recorded"
    return f"Small multiples over the {AXIS_LABELS[axis]}: {titles}. {ends(means, recorded[0]) if recorded else ''}"


def ends(means: pd.DataFrame, quantity: str) -> str:
    """Where each arm's mean curve begins and ends, as a sentence."""
    rows = means[means["quantity"] == quantity]
    parts = []
    for arm, of_arm in rows.groupby("arm", sort=False, observed=True):
        first, last = of_arm["mean"].iloc[0], of_arm["mean"].iloc[-1]
        parts.append(f"{arm_label(str(arm))} from {first:.3g} to {last:.3g}")
    return f"{panel(quantity)[0]}: {'; '.join(parts)}." if parts else ""
