"""Published numbers: what was measured beside them, and all of them; docs/published.md says what makes ours."""

from math import isnan

import pandas as pd

from analysis.figures.paper import FIGURES, missing_paper_figures
from analysis.formatting import listed, plain, signed, with_interval
from analysis.records.published import comparability, comparable, published
from analysis.records.study import Study
from analysis.report.page import bullets, folded, paragraph
from analysis.report.tables import Table
from analysis.statistics.intervals import Interval
from analysis.verdict.published import Compared, paper_comparison

READING = (
    "Percent. Final: mean over seeds of each one's last evaluations, on the benchmark's own problems, with the 95 % t "
    "interval over seeds. Peak: the highest evaluation of each seed, averaged; a maximum over looks, biased upwards, "
    "and what a published peak is like. By how much a single published run strays is not known, and a peak lies above "
    "what its run ends at. So nothing here is a verdict on a paper; what else differs is listed below."
)


def published_section(study: Study) -> str:
    """Measured beside published where there is anything, then everything published."""
    return _beside(study) + _all_published(study)


def _beside(study: Study) -> str:
    """The comparison, or why there is none."""
    compared = paper_comparison(study)
    if not compared:
        return paragraph(_why_none(study))
    head = ["Benchmark", "Arm", "Metric", "Source", "Published", "Final", "n", "Peak", "Published - final"]
    parts = [paragraph(comparability(study.configs)), Table(head, [_row(study, one) for one in compared], 4).html]
    return "\n".join(
        [*parts, paragraph(READING, "soft"), "<h3>Differences of protocol</h3>", _differences(study, compared)]
    )


def _why_none(study: Study) -> str:
    """Why nothing measured stands beside published numbers."""
    rows = comparable(study.configs)
    if rows.empty:
        return comparability(study.configs)
    theirs, ours = listed(list(dict.fromkeys(rows["arm"]))), listed([arm.name for arm in study.compared_arms])
    return (
        "None of the published numbers can be set beside these runs, though model and benchmark are the same: they are "
        f"of {theirs}, these runs of {ours}, on problems that environment.json must name."
    )


def _row(study: Study, one: Compared) -> list[str]:
    asked = f"{one.metric}@{one.asked}"
    percent = Interval(100 * one.final.mean, 100 * one.final.low, 100 * one.final.high, one.final.n)
    return [
        one.benchmark,
        study.label(one.arm),
        asked if one.k == one.asked else f"{asked}, here {one.metric}@{one.k}",
        one.source,
        plain(100 * one.published, 0),
        with_interval(percent, 1) + (", one seed: no interval" if isnan(percent.low) else ""),
        str(one.final.n),
        f"{plain(100 * one.peak, 1)} (peak)",
        f"none: {one.metric}@{one.k} is another quantity" if isnan(one.difference) else signed(100 * one.difference, 1),
    ]


def _differences(study: Study, compared: list[Compared]) -> str:
    """For each arm and source whose published runs differ from ours alike, the differences as a list."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for one in compared:
        named = groups.setdefault((study.label(one.arm), one.source, one.differences), [])
        if one.benchmark not in named:
            named.append(one.benchmark)
    return "\n".join(
        paragraph(f"{arm} on {listed(named)}, {source}:") + bullets(list(of_them))
        for (arm, source, of_them), named in groups.items()
    )


def _all_published(study: Study) -> str:
    """Every published number, apart from what was measured, and which of the paper's figures these runs can mirror."""
    rows = [
        [
            row["source"],
            str(row["model"]).split("/")[-1],
            row["benchmark"],
            row["metric"],
            row["arm"] + ("" if pd.isna(row["at"]) else f", {row['parameter']} {row['at']:g}"),
            row["note"],
            plain(100 * row["value"], 0),
        ]
        for _, row in published().iterrows()
    ]
    head = ["Source", "Model", "Benchmark", "Metric", "Arm", "Note", "Percent"]
    missing = missing_paper_figures(study)
    drawn = [figure.number.replace("_", " ") for figure in FIGURES if figure.number not in missing]
    words = (
        f"python -m analysis figures writes the panels of the paper's Figures {', '.join(drawn)} from these runs as "
        "paper_figure_NN."
    )
    absent = [f"Figure {number.replace('_', ' ')}, {why}" for number, why in missing.items()]
    numbers = folded(f"{len(rows)} published numbers", Table(head, rows, words=6).html)
    return numbers + paragraph(words, "soft") + bullets(absent)
