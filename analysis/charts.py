"""The report's figures in its order, each with its data, its caption and the name of its files."""

from collections.abc import Callable, Sequence

from analysis.chart import Chart
from analysis.charts_claims import claims_chart
from analysis.controls import NEGATIVE
from analysis.curves import DYNAMICS, LEARNING, bands, on_common_grid, seed_curves, seed_token_curves
from analysis.figures import accuracy_against_tokens, learning_curves, training_dynamics
from analysis.figures_length import accuracy_against_length
from analysis.figures_outcomes import AXIS, outcomes_per_arm
from analysis.findings import Findings, final_answers, seed_counts
from analysis.formatting import plain
from analysis.length import SMALLEST_BIN, anytime, pooled_by_length
from analysis.outcomes import FINAL_EVALUATIONS, summary_table, token_budget, token_curves

EVERY_SEED = (
    "Thin lines: every seed. Thick line and band: mean and 95 % t interval over seeds; the seeds set the scale, and a "
    "band that leaves it is cut."
)


def charts(found: Findings, names: Sequence[str] = ()) -> list[Chart]:
    """The figures of a report, all or those named, one without data left out."""
    chosen = [CHARTS[name] for name in names or CHARTS]
    return [chart for maker in chosen if (chart := maker(found)) is not None]


def _learning(found: Findings) -> Chart:
    curves = seed_curves(found.study, LEARNING)
    means = bands(curves)
    return Chart(
        "learning_curves",
        "Learning curves",
        f"{EVERY_SEED} Rollout quantities are over the first sampling round of a step, whose prompts and random "
        "numbers are the same in every arm; step s is the policy after s steps. The primary outcome is the mean of "
        "the first panel's curve over the steps. The influence weight exists in FIPO only; in the other losses it is "
        f"1 by definition. {seed_counts(found)}",
        learning_curves(curves, means, LEARNING),
        {"seeds": curves, "means": means},
    )


def _outcomes(found: Findings) -> Chart:
    names = list(AXIS)
    seeds = found.outcomes.melt(id_vars=["run", "arm", "seed"], value_vars=names, var_name="outcome")
    means = summary_table(found.outcomes, names)
    close = [arm.name for arm in found.study.arms_with_runs if arm.control != NEGATIVE] or list(means["arm"].unique())
    return Chart(
        "outcomes",
        "Outcomes per arm",
        "Filled mark and bar: mean and 95 % t interval over seeds. Open dots: every seed. Left all arms, right the "
        "same without the negative control on a finer scale. Overlapping intervals do not answer whether two arms "
        f"differ: the next figure does. {seed_counts(found)}",
        outcomes_per_arm(seeds, means, close),
        {"seeds": seeds, "means": means},
    )


def _tokens(found: Findings) -> Chart:
    curves = seed_token_curves(found.study)
    means = bands(on_common_grid(curves))
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
    )


def _length(found: Findings) -> Chart:
    answers = final_answers(found.study)
    pooled, within, curves = pooled_by_length(answers), found.within_prompt, anytime(answers)
    means = bands(curves)
    return Chart(
        "accuracy_against_length",
        "Accuracy against response length",
        f"From the answers of the last {FINAL_EVALUATIONS} evaluations. (a) Share correct per quantile bin of length; "
        f"bars: 95 % t interval over seeds; bins with fewer than {SMALLEST_BIN} answers are hidden; answers cut off "
        "at the limit stand apart. This view is confounded by prompt difficulty, since hard prompts have longer "
        "answers: do not read an effect of length from it. (b) Share of answers that are correct and no longer than "
        f"the budget, for every budget, from one set of answers. {EVERY_SEED} (c) Among answers of one policy to one "
        "prompt, the probability that a right one is longer than a wrong one; at 0.5 length says nothing. (d) Slope "
        "of a conditional (fixed-effect) logit of being right on log tokens, which removes what each prompt "
        "contributes. c and d: mean and 95 % t interval over seeds, cut-off answers left out. Length follows from the "
        f"policy, so all of this describes and explains nothing. {seed_counts(found)}",
        accuracy_against_length(pooled, within, curves, means),
        {"pooled": pooled, "within_prompt": within, "anytime": curves, "anytime_means": means},
    )


def _dynamics(found: Findings) -> Chart:
    curves = seed_curves(found.study, DYNAMICS)
    means = bands(curves)
    return Chart(
        "training_dynamics",
        "Training dynamics",
        f"{EVERY_SEED} KL: mean of log pi_old - log pi over trained tokens. Informative prompts: those whose "
        "responses do not all score the same. Stopped by a clip: trained tokens whose gradient that clip stopped. "
        f"Losses themselves are not shown: their values are not comparable between arms. {seed_counts(found)}",
        training_dynamics(curves, means, DYNAMICS),
        {"seeds": curves, "means": means},
    )


CHARTS: dict[str, Callable[[Findings], Chart | None]] = {
    "learning_curves": _learning,
    "claims": claims_chart,
    "outcomes": _outcomes,
    "accuracy_against_tokens": _tokens,
    "accuracy_against_length": _length,
    "training_dynamics": _dynamics,
}
