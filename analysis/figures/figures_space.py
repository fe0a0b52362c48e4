"""Figures of a search's space: the surface over two parameters, and importances.

Each is a function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.tri import Triangulation

from analysis.figures.canvas import grid
from analysis.figures.search import VALUE
from analysis.figures.search_panels import GREY, WITHOUT_VALUE, parameter_axis
from analysis.figures.style import arm_styles, paper

LEVELS = 11


@paper()
def contour(
    surface: pd.DataFrame, trials: pd.DataFrame, parameters: tuple[str, str], scales: tuple[str, str]
) -> Figure:
    """A filled contour of the value with the trials in the same colours, nothing outside their hull.

    surface: u, v (in which their hull is convex), x, y, height. trials: x, y, value, outcome.
    """
    figure, (ax,) = grid(1, 1, 4.2)
    ax.use_sticky_edges = False
    triangles = Triangulation(surface["u"], surface["v"]).triangles
    low, high = float(trials["value"].min()), float(trials["value"].max())
    levels = np.linspace(low, high if high > low else low + 0.01, LEVELS)
    shape = Triangulation(surface["x"], surface["y"], triangles)
    drawn = ax.tricontourf(shape, surface["height"], levels, cmap="viridis", extend="both")
    valued = trials.dropna(subset=["value"])
    ax.scatter(
        valued["x"],
        valued["y"],
        c=valued["value"],
        cmap="viridis",
        vmin=levels[0],
        vmax=levels[-1],
        s=34,
        edgecolors=["#222222" if outcome == "feasible" else "#D55E00" for outcome in valued["outcome"]],
        linewidths=[0.8 if outcome == "feasible" else 1.8 for outcome in valued["outcome"]],
        zorder=4,
    )
    for state, (marker, color, _) in WITHOUT_VALUE.items():
        rows = trials[trials["outcome"] == state]
        ax.plot(rows["x"], rows["y"], linestyle="", marker=marker, color=color, markersize=6.5, markeredgewidth=1.5)
    for which, parameter, scale in zip(("x", "y"), parameters, scales, strict=True):
        labels = [f"{value:.4g}" for value in trials[which]]
        parameter_axis(ax, which, trials.assign(parameter=parameter, label=labels), scale)  # type: ignore[arg-type]
    ax.grid(visible=False)
    figure.colorbar(drawn, ax=ax, label=VALUE, format=lambda value, _: f"{value:.3f}")
    figure.legend(handles=_contour_marks(trials["outcome"], len(valued)), loc="outside upper center", ncols=3)
    return figure


@paper()
def importances(table: pd.DataFrame) -> Figure:
    """A panel per loss: fANOVA as bars, PED-ANOVA as hollow marks.

    table: loss, parameter, method, importance, trials.
    """
    losses = list(dict.fromkeys(table["loss"]))
    counts = [table.loc[table["loss"] == loss, "parameter"].nunique() for loss in losses]
    options = {"sharex": True, "gridspec_kw": {"height_ratios": [count + 0.8 for count in counts]}}
    figure, axes = grid(len(losses), 1, 0.27 * sum(counts) + 0.55 * len(losses) + 0.75, **options)
    for ax, (loss, style) in zip(axes, arm_styles(losses).items(), strict=True):
        rows = table[table["loss"] == loss]
        wide = rows.pivot_table(index="parameter", columns="method", values="importance", sort=False, dropna=False)
        names = list(dict.fromkeys(rows["parameter"]))
        wide = wide.reindex(index=names, columns=["fanova", "ped_anova"])
        ax.barh(names, wide["fanova"].fillna(0.0), color=style.color, height=0.6, alpha=0.8)
        ax.plot(wide["ped_anova"], names, "D", markerfacecolor="none", markeredgecolor="black", markersize=5)
        for place, value in enumerate(wide["fanova"]):
            if np.isnan(value):
                ax.text(0.005, place, "no fANOVA", va="center", size=6.5, color=GREY)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0.0, 1.02)
        ax.tick_params(axis="y", length=0)
        ax.grid(visible=False, axis="y")
        ax.set_title(f"{style.label}, {int(rows['trials'].iloc[0])} trials")
    axes[-1].set_xlabel("importance (shares of each method, summing to 1)")
    bar = Patch(color=GREY, alpha=0.8, label="fANOVA")
    mark = Line2D([], [], linestyle="", marker="D", markerfacecolor="none", color="black", label="PED-ANOVA")
    figure.legend(handles=[bar, mark], loc="outside upper center", ncols=2)
    return figure


def _contour_marks(outcomes: pd.Series, valued: int) -> list[Line2D]:
    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            color="#cccccc",
            markersize=5.5,
            markeredgecolor="#222222",
            label=f"trial with a value, n = {valued}",
        )
    ]
    if outcomes.eq("over a limit").any():
        edge = Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            color="#cccccc",
            markersize=5.5,
            markeredgecolor="#D55E00",
            markeredgewidth=1.8,
            label="of them over a limit",
        )
        handles.append(edge)
    return handles + [
        Line2D([], [], linestyle="", marker=marker, color=color, markeredgewidth=1.5, label=label)
        for state, (marker, color, label) in WITHOUT_VALUE.items()
        if outcomes.eq(state).any()
    ]
