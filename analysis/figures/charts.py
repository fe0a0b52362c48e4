"""The report's figures in its order, by the name of their files."""

from collections.abc import Callable, Iterator, Sequence

from analysis.figures.chart import Chart
from analysis.figures.charts_claims import claims_chart
from analysis.figures.charts_ladder import ladder_chart
from analysis.figures.charts_length import length_chart, path_chart
from analysis.figures.charts_microscope import microscope_chart, weights_chart
from analysis.figures.charts_training import clipping_chart, dynamics_chart, learning_chart, lengths_chart, tokens_chart
from analysis.figures.outcomes import AXIS, outcomes_per_arm
from analysis.figures.paper import PAPER_CHARTS
from analysis.figures.style import arm_label
from analysis.records.outcomes import summary_table
from analysis.verdict.controls import NEGATIVE
from analysis.verdict.findings import Findings, seed_counts


def charts(found: Findings, names: Sequence[str] = ()) -> Iterator[Chart]:
    """The figures of a report, or those named, one at a time; one without data is left out."""
    for name in names or CHARTS:
        chart = ALL_CHARTS[name](found)
        if chart is not None:
            yield chart


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
        f"differ: the figure of the claims does. {seed_counts(found)}",
        outcomes_per_arm(seeds, means, close),
        {"seeds": seeds, "means": means},
        "Dots and intervals per arm. AUC: "
        + "; ".join(
            f"{arm_label(row['arm'])} {row['mean']:.3f}" for _, row in means[means["outcome"] == "auc"].iterrows()
        )
        + ".",
    )


CHARTS: dict[str, Callable[[Findings], Chart | None]] = {
    "learning_curves": learning_chart,
    "claims": claims_chart,
    "ladder": ladder_chart,
    "outcomes": _outcomes,
    "accuracy_against_tokens": tokens_chart,
    "accuracy_against_length": length_chart,
    "length_path": path_chart,
    "training_dynamics": dynamics_chart,
    "response_lengths": lengths_chart,
    "clipping_and_weights": clipping_chart,
    "influence_weights": weights_chart,
    "microscope": microscope_chart,
}
ALL_CHARTS = CHARTS | PAPER_CHARTS
