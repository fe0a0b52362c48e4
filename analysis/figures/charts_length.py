"""The charts of accuracy against response length: four views of the last answers, and the path over training."""

from analysis.figures.chart import Chart
from analysis.figures.charts_training import EVERY_SEED
from analysis.figures.figures_length import accuracy_against_length, length_paths
from analysis.figures.length import STAGES, stage_fits, stage_summary, stages_of
from analysis.figures.style import arm_label
from analysis.records.curves import bands
from analysis.records.outcomes import FINAL_EVALUATIONS
from analysis.statistics.length import SMALLEST_BIN, anytime, pooled_by_length
from analysis.verdict.findings import Findings, seed_counts


def length_chart(found: Findings) -> Chart:
    """Pooled, within prompt, and at every budget."""
    answers = found.answers
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
        f"Four panels of accuracy against length. Probability that the right one of two answers to a prompt is the "
        f"longer: {_concordances(found)}.",
    )


def path_chart(found: Findings) -> Chart | None:
    """Mean length against accuracy over training, stage by stage, as the paper draws it."""
    place = {arm.name: index for index, arm in enumerate(found.study.arms)}
    points = stages_of(found.study.evals)
    points = points.sort_values("arm", key=lambda names: names.map(place), kind="stable", ignore_index=True)
    if points.empty:
        return None
    fits = stage_fits(points)
    summary = stage_summary(fits)
    return Chart(
        "length_path",
        "The path of length and accuracy over training",
        f"Each evaluation's mean response length and accuracy, joined in the order of training; a thin line per "
        f"seed. The quarters of training are told apart by the mark, as in the FIPO paper's Figure 3f, which "
        f"fits a line to each of {STAGES} stages and gives its R2. Here each seed has its own line per stage; the "
        "table behind the figure has the mean slope with its t interval over seeds. The points of a run are not "
        "independent, and prompts, policy and length change together along the path: it shows what happened in "
        f"training, not what longer answers do. {seed_counts(found)}",
        length_paths(points),
        {"points": points, "seeds": fits, "stages": summary},
        "Paths of mean response length and accuracy over training, one per arm.",
    )


def _concordances(found: Findings) -> str:
    rows = found.within_prompt[found.within_prompt["measure"] == "concordance"]
    return "; ".join(f"{arm_label(row['arm'])} {row['mean']:.2f}" for _, row in rows.iterrows())
