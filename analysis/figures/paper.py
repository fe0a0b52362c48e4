"""The panels of the FIPO paper's Figures 1 to 12 from our runs, under the paper's numbers.

Left out: Figure 3f, which is `length_path`, and 13 to 16, which are case studies (`microscope` shows ours).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.figures.chart import Chart
from analysis.figures.charts_training import EVERY_SEED, LENGTHS, alt
from analysis.figures.training import small_multiples
from analysis.formatting import listed
from analysis.records.curves import mean_curves, seed_curves
from analysis.records.published import benchmarks, comparable
from analysis.records.study import Study
from analysis.verdict.findings import Findings, seed_counts

ACCURACY, LENGTH, ENTROPY = "evaluation/accuracy", "rollout/response_tokens_mean", "rollout/entropy"
KL, NORM = "loss/kl_to_old", "optimizer/grad_norm"
ADVANTAGE = "rollout/length_weighted_advantage"
LOW, HIGH, DUAL = (f"loss/clip_fraction_{which}" for which in ("low", "high", "dual"))
WEIGHT, AT_HIGH = "loss/influence_weight", "loss/influence_weight_at_high"
SIDED = ("fipo_two_sided", "fipo_one_sided")  # at 32B weights are one-sided, at 7B two-sided
VARIANTS = ("fipo_two_sided", "fipo_no_safety", "fipo_clip_high", "fipo_long")


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
    PaperFigure("08", "Variants of FIPO", (LENGTH, ENTROPY, ACCURACY), ("fipo", *VARIANTS)),
    PaperFigure("09", "With and without the filter", (WEIGHT, DUAL, LOW, HIGH), ("fipo", "fipo_no_filter")),
    PaperFigure("10", "One-sided against two-sided weights", (ENTROPY, LENGTH), ("fipo", *SIDED)),
    PaperFigure("11", "Decay rates", (WEIGHT, AT_HIGH, ENTROPY), differ="fipo_decay_rate"),
    PaperFigure("12", "Mini-batches", (LENGTH, HIGH, NORM, ENTROPY, ACCURACY), differ="minibatches"),
)


def paper_chart(found: Findings, figure: PaperFigure) -> Chart | None:
    """One figure of the paper from the arms that it compares; None where fewer than two of them have runs."""
    arms = arms_for(found.study, figure)
    if not arms:
        return None
    panels = _by_benchmark(found.study, figure)
    curves = seed_curves(found.study, panels, found.axis)
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
        small_multiples(curves, means, panels, found.axis, _references(found.study, panels, arms)),
        {"seeds": curves, "means": means},
        alt(means, panels, found.axis),
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
            arms = f"two of {listed(list(figure.arms))}" if len(figure.arms) > 2 else " and ".join(figure.arms)
            needed = f"arms of FIPO that differ in {figure.differ}" if figure.differ else arms
            missing[figure.number] = f"{figure.title}: needs {needed}"
    return missing


def _by_benchmark(study: Study, figure: PaperFigure) -> list[str]:
    """The figure's panels, that of accuracy once for each benchmark where the runs have several."""
    suites = list(_known(study))
    accuracy = [f"{ACCURACY}: {suite}" for suite in suites] if len(suites) > 1 else [ACCURACY]
    return [name for panel in figure.panels for name in (accuracy if panel == ACCURACY else [panel])]


def _known(study: Study) -> dict[str, str | None]:
    """The benchmarks of the runs by their names in the records, and which published one each is."""
    return {
        suite: name
        for run, config in study.configs.items()
        for suite, name in benchmarks(config).items()
        if suite in study.suites.get(run, {})
    }


def _references(study: Study, panels: Sequence[str], arms: Sequence[str]) -> pd.DataFrame | None:
    """The FIPO paper's accuracies as lines, in panels of the same benchmark, where the runs are of the same model.

    Of the arms that the figure shows, and of the other systems in the paper's Figure 1.
    """
    rows, known = comparable(study.configs), _known(study)
    shown = rows["arm"].isin(arms) | rows["source"].eq("FIPO paper, Figure 1")
    rows = rows[shown & (rows["metric"] == "avg@32") & rows["parameter"].isna()]
    rows = rows[rows["source"].str.startswith("FIPO paper")].drop_duplicates(["arm", "benchmark", "value"])
    lines = [
        {"quantity": panel, "label": f"published: {' and '.join(same['arm'])}", "value": value}
        for suite, name in known.items()
        for panel in panels
        if panel in (ACCURACY, f"{ACCURACY}: {suite}")
        for value, same in rows[rows["benchmark"] == name].groupby("value")
    ]
    return pd.DataFrame(lines) if lines else None


def _setting(study: Study, arm: str, name: str) -> object:
    """A setting of an arm, from the config of its first run."""
    run = study.runs.loc[(study.runs["arm"] == arm) & study.runs["run"].isin(study.folders), "run"].iloc[0]
    return next((section[name] for section in study.configs[run].values() if name in section), None)


def _maker(figure: PaperFigure) -> Callable[[Findings], Chart | None]:
    return lambda found: paper_chart(found, figure)


PAPER_CHARTS = {f"paper_figure_{figure.number}": _maker(figure) for figure in FIGURES}
