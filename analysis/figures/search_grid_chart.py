"""The chart of a designed grid: its seeds, its tested trend, and what papers report of the same parameter."""

import pandas as pd

from analysis.figures.chart import Chart
from analysis.figures.figures_grid import designed_grid
from analysis.figures.search_alt import grid_alt
from analysis.formatting import counted
from analysis.records.published import published, published_settings
from analysis.records.search import Search
from analysis.verdict.search_grid import grid_values, without_value
from analysis.verdict.search_trend import Trend, trend_line


def grid_chart(search: Search, item: Trend) -> Chart:
    """Every seed over the grid's values with the trend that was tested, and published values apart."""
    seeds, means = grid_values(search, item.loss, item.parameter)
    papers, settings = published(), published_settings()
    papers = papers[papers["parameter"] == item.parameter]
    tables = {
        "seeds": seeds,
        "means": means,
        "without_value": without_value(search, item.loss, item.parameter),
        "trend": trend_line(search, item),
        "settings": settings[settings["parameter"] == item.parameter],
        "published": papers,
    }
    return Chart(
        f"designed_grid_{item.loss}",
        f"Grid over {item.parameter}",
        f"{_measured(item, tables['settings'])}{_reported(papers)}",
        designed_grid(tables, item.loss, item.parameter, item.slope_words),
        tables,
        grid_alt(means, item.parameter, item.sentence, papers),
    )


def _measured(item: Trend, settings: pd.DataFrame) -> str:
    joined = "Dots joined by thin lines: one seed. Large marks: mean and 95 % t interval over seeds"
    seeds = f"each on the same {counted(len(item.seeds) + len(item.lost_seeds), 'tuning seed')}"
    caption = (
        f"A designed grid: every value fixed beforehand, {seeds}. {joined}; dotted: the mean of the tested lines. "
    )
    caption += (
        f"{item.sentence} Tested is the slope over {'log2 of ' if item.unit == 'doubling' else ''}the value, one "
    )
    caption += "per seed, by a t test over seeds: it sees what rises or falls throughout, never the best value against "
    caption += "the worst, and no hump in between."
    if len(settings):
        marks = "; ".join(f"{row['label']}: {row['at']:g} ({row['source']})" for _, row in settings.iterrows())
        caption += f" Dashed: {marks}."
    return caption


def _reported(papers: pd.DataFrame) -> str:
    """What the panel of published values is, and why nothing here is compared with it."""
    if papers.empty:
        return ""
    best = papers.loc[papers.groupby("benchmark", sort=True)["value"].idxmax()]
    tops = ", ".join(f"{row['at']:g} on {row['benchmark']}" for _, row in best.iterrows())
    source, models = papers["source"].iloc[0], ", ".join(dict.fromkeys(papers["model"]))
    return (
        f" Right, apart, on an axis of its own: {source}, peaks of single runs of {models}, without an interval; the "
        f"highest value is at {tops}. Model, task and level differ, so nothing measured here is compared with them."
    )
