"""The panels of the FIPO paper's Figures 1 to 12 from our runs, under the paper's numbers.

Left out: Figure 3f, which is `length_path`, and 13 to 16, which are case studies (`microscope` shows ours).
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.chart import Chart
from analysis.charts_training import EVERY_SEED, LENGTHS, alt
from analysis.curves import mean_curves, seed_curves
from analysis.figures import small_multiples
from analysis.findings import Findings, seed_counts
from analysis.published import comparable
from analysis.records import Study

ACCURACY, LENGTH, ENTROPY = "evaluation/accuracy", "rollout/response_tokens_mean", "rollout/entropy"
KL, NORM = "loss/kl_to_old", "optimizer/grad_norm"
ADVANTAGE = "rollout/length_weighted_advantage"
LOW, HIGH, DUAL = (f"loss/clip_fraction_{which}" for which in ("low", "high", "dual"))
WEIGHT, AT_HIGH = "loss/influence_weight", "loss/influence_weight_at_high"


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper: its panels here, and which arms it compares.

    arms: those it is about, two of which must be there; all compared arms where empty. differ: the setting by which
    it tells FIPO's arms apart.
    """

    number: str
    title: str
    panels: tuple[str, ...]
    arms: tuple[str, ...] = ()
    differ: str | None = None


FIGURES = (
    PaperFigure("01", "Accuracy over training", (ACCURACY,)),
    PaperFigure("02", "FIPO without its filter", (LOW, KL, NORM, LENGTH), ("fipo", "fipo_no_filter")),
    PaperFigure("03", "Response lengths (a-e; f is length_path)", LENGTHS[:5]),
    PaperFigure("04", "Reward, sampling, advantage", ("rollout/reward_mean", "rollout/sampling_rounds", ADVANTAGE)),
    PaperFigure("05_and_07", "KL, gradient norm, entropy", (KL, NORM, ENTROPY)),
    PaperFigure("06", "Length-weighted advantage and length", (ADVANTAGE, LENGTH)),
    PaperFigure("08", "Variants of FIPO", (LENGTH, ENTROPY, ACCURACY), ("fipo", "fipo_two_sided", "fipo_no_safety")),
    PaperFigure("09", "With and without the filter", (WEIGHT, DUAL, LOW, HIGH), ("fipo", "fipo_no_filter")),
    PaperFigure("10", "One-sided against two-sided weights", (ENTROPY, LENGTH), ("fipo", "fipo_two_sided")),
    PaperFigure("11", "Decay rates", (WEIGHT, AT_HIGH, ENTROPY), differ="fipo_decay_rate"),
    PaperFigure("12", "Mini-batches", (LENGTH, HIGH, NORM, ENTROPY, ACCURACY), differ="minibatches"),
)


def paper_chart(found: Findings, figure: PaperFigure) -> Chart | None:
    """One figure of the paper from the arms that it compares; None where fewer than two of them have runs."""
    arms = arms_for(found.study, figure)
    if not arms:
        return None
    curves = seed_curves(found.study, figure.panels, found.axis)
    curves = curves[curves["arm"].isin(arms)].reset_index(drop=True)
    if curves.empty:
        return None
    means = mean_curves(curves, found.axis)
    return Chart(
        f"paper_figure_{figure.number}",
        f"The paper's Figure {figure.number.replace('_', ' ')}: {figure.title}",
        f"The panels of the FIPO paper's Figure {figure.number.replace('_', ' ')} (arXiv 2603.19835) from these runs: "
        "another model and task unless the report says otherwise, several seeds where the paper has one run, and the "
        f"mean over seeds where it has a curve. {EVERY_SEED} {seed_counts(found)}",
        small_multiples(curves, means, figure.panels, found.axis, _references(found.study, figure)),
        {"seeds": curves, "means": means},
        alt(means, figure.panels, found.axis),
    )


def arms_for(study: Study, figure: PaperFigure) -> list[str]:
    """The arms with runs that the figure compares, none where they are fewer than it needs."""
    compared = [arm.name for arm in study.compared_arms]
    if figure.differ is not None:
        values = {arm: _setting(study, arm, figure.differ) for arm in compared if arm.startswith("fipo")}
        return list(values) if len(set(values.values())) > 1 else []
    arms = [arm for arm in compared if arm in figure.arms] if figure.arms else compared
    return arms if not figure.arms or len(arms) > 1 else []


def missing_paper_figures(study: Study) -> dict[str, str]:
    """The paper's figures that these runs cannot draw, and what they would need."""
    missing = {}
    for figure in FIGURES:
        if not arms_for(study, figure):
            needed = f"arms of FIPO that differ in {figure.differ}" if figure.differ else " and ".join(figure.arms)
            missing[figure.number] = f"{figure.title}: needs {needed}"
    return missing


def _references(study: Study, figure: PaperFigure) -> pd.DataFrame | None:
    """Published accuracies as lines, where the runs are of the same model and benchmark."""
    rows = comparable(study.configs)
    if ACCURACY not in figure.panels or rows.empty:
        return None
    rows = rows[(rows["metric"] == "avg@32") & rows["parameter"].isna()].drop_duplicates(["arm", "benchmark"])
    labels = "published, " + rows["note"].str.split(";").str[0] + ": " + rows["arm"] + ", " + rows["benchmark"]
    return pd.DataFrame({"quantity": ACCURACY, "label": labels, "value": rows["value"]})


def _setting(study: Study, arm: str, name: str) -> object:
    """A setting of an arm, from the config of its first run."""
    run = study.runs.loc[(study.runs["arm"] == arm) & study.runs["run"].isin(study.folders), "run"].iloc[0]
    return next((section[name] for section in study.configs[run].values() if name in section), None)


def _maker(figure: PaperFigure) -> Callable[[Findings], Chart | None]:
    return lambda found: paper_chart(found, figure)


PAPER_CHARTS = {f"paper_figure_{figure.number}": _maker(figure) for figure in FIGURES}
