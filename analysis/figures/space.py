"""A search's space: the value over each parameter, and over two of them together."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.figures.canvas import Drawing, grid
from analysis.figures.figure import Figure
from analysis.figures.search import trial_counts
from analysis.figures.style import ArmStyle, loss_styles, paper
from analysis.figures.trials import (
    VALUE,
    WITHOUT_VALUE,
    draw_trials,
    over_parameter,
    parameter_axis,
    scale_of,
    trial_legend,
    value_axis,
)
from analysis.formatting import plain
from analysis.records.search import Search
from analysis.verdict.search import SearchFindings

PAIR = ("fipo_clip_range", "fipo_safety_threshold")
FEWEST_FOR_CONTOUR, LEVELS = 6, 11


def slice_figures(found: SearchFindings) -> Iterator[Figure]:
    """One of each loss that has a value: the value over each searched parameter."""
    search = found.search
    for loss, style in loss_styles(search.losses).items():
        tables = [over_parameter(search, loss, name) for name in search.searched(loss)]
        tables = [table for table in tables if table["value"].notna().any()]
        if not tables:
            continue
        rows = pd.concat(tables, ignore_index=True)
        scales = {name: scale_of(search, loss, name) for name in dict.fromkeys(rows["parameter"])}
        yield Figure(
            f"slices_{loss}",
            f"Value over each parameter: {style.label}",
            "Every trial and its seeds. The other parameters vary too, and a search looks where it found much: a "
            "slope along the points is no effect.",
            draw_slices(rows, scales, style),
            {"trials": rows},
            f"Values of {rows['trial'].nunique()} trials of {style.label} over {', '.join(scales)}.",
            f"Trials without a value stand in the strip below, at the value they had. {trial_counts(search, [loss])}",
        )


def contour_figures(found: SearchFindings) -> Iterator[Figure]:
    """One of each loss that searched both of PAIR and has trials enough that span an area."""
    for loss, style in loss_styles(found.search.losses).items():
        trials = pairs(found.search, loss) if set(PAIR) <= set(found.search.searched(loss)) else pd.DataFrame()
        valued = trials.dropna(subset=["value"]) if len(trials) else trials
        if len(valued) < FEWEST_FOR_CONTOUR or valued[["x", "y"]].nunique().min() < 3:
            continue
        best = valued.sort_values("value").iloc[-1]
        yield Figure(
            f"contour_{loss}",
            f"{PAIR[0]} and {PAIR[1]}: {style.label}",
            "Trials in the colours of the surface between them, which is linear, unsmoothed and without an interval: "
            "that one place is better than another does not follow from it.",
            draw_contour(trials, (scale_of(found.search, loss, PAIR[0]), scale_of(found.search, loss, PAIR[1]))),
            {"trials": trials},
            f"{len(valued)} trials over {PAIR[0]} and {PAIR[1]}; the highest value, {plain(best['value'])}, at "
            f"{best['x']:.3g} and {best['y']:.3g}.",
            f"Other searched parameters vary too. Trials with one of the two switched off have no place here. "
            f"{trial_counts(found.search, [loss])}",
        )


def pairs(search: Search, loss: str) -> pd.DataFrame:
    """The ended trials that have numbers for both of PAIR: trial, outcome, value, x, y."""
    x, y = (over_parameter(search, loss, name).drop_duplicates("trial").set_index("trial") for name in PAIR)
    both = x[["outcome", "value"]].assign(x=pd.to_numeric(x["label"], errors="coerce"))
    both = both.join(pd.to_numeric(y["label"], errors="coerce").rename("y"))
    return both.dropna(subset=["x", "y"]).reset_index()


@paper()
def draw_slices(rows: pd.DataFrame, scales: dict[str, str], style: ArmStyle) -> Drawing:
    """Axes per parameter. rows: as `over_parameter` gives them; scales: `log`, `linear` or `words` by parameter."""
    outcomes = set(rows["outcome"])
    columns = 2 if len(scales) == 4 else min(3, len(scales))
    lines = -(-len(scales) // columns)
    drawing, axes = grid(lines, columns, 2.15 * lines + 0.7, sharey=True)
    for ax, (parameter, scale) in zip(axes, scales.items(), strict=False):
        of_parameter = rows[rows["parameter"] == parameter]
        draw_trials(ax, of_parameter.drop_duplicates("trial"), of_parameter, style)
        parameter_axis(ax, "x", of_parameter.drop_duplicates("trial"), scale)
    for ax in axes[len(scales) :]:
        ax.axis("off")
    for ax in axes[::columns]:
        ax.set_ylabel("final accuracy")
    value_axis(axes[: len(scales)], pd.concat([rows["value"], rows["seed_value"]]), outcomes)
    trial_legend(drawing, outcomes)
    return drawing


@paper()
def draw_contour(trials: pd.DataFrame, scales: tuple[str, str]) -> Drawing:
    """A filled contour between the trials, nothing outside their hull. trials: x, y, value, outcome."""
    drawing, (ax,) = grid(1, 1, 4.0)
    valued = trials.dropna(subset=["value"]).groupby(["x", "y"], as_index=False)["value"].mean()
    low, high = float(valued["value"].min()), float(valued["value"].max())
    levels = np.linspace(low, high if high > low else low + 0.01, LEVELS)
    for which, name, scale in zip("xy", PAIR, scales, strict=True):
        labels = [f"{value:.4g}" for value in trials[which]]
        parameter_axis(ax, which, trials.assign(parameter=name, label=labels), scale)  # type: ignore[arg-type]
    look = {"cmap": "viridis", "vmin": levels[0], "vmax": levels[-1]}
    drawn = ax.tricontourf(valued["x"], valued["y"], valued["value"], levels, **look)
    ax.scatter(
        valued["x"], valued["y"], c=valued["value"], s=34, edgecolors="#222222", linewidths=0.8, zorder=4, **look
    )
    for state, (marker, color) in WITHOUT_VALUE.items():
        rows = trials[trials["outcome"] == state]
        ax.plot(rows["x"], rows["y"], linestyle="", marker=marker, color=color, markersize=6.5, markeredgewidth=1.5)
    ax.grid(visible=False)
    drawing.colorbar(drawn, ax=ax, label=VALUE, format=lambda value, _: f"{value:.3f}")
    return drawing
