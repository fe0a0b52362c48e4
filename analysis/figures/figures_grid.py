"""The figure of a designed grid over one parameter, and beside it what papers report of the same parameter.

A function from tidy tables to a matplotlib Figure: no reading, no statistics, no saving.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from analysis.figures.canvas import grid
from analysis.figures.search import VALUE
from analysis.figures.search_panels import GREY, WITHOUT_VALUE, draw_without_value, parameter_axis, value_axis
from analysis.figures.style import ArmStyle, arm_styles, paper

SEED = "#888888"
PUBLISHED = "#777777"
PUBLISHED_MARKS = ("o", "s", "^", "D")
TREND_LINE = (0, (1, 1.2))


@paper()
def designed_grid(tables: Mapping[str, pd.DataFrame], loss: str, parameter: str, trend: str) -> Figure:
    """Every seed over the values of one parameter, and mean with interval at each; `trend` names the tested line.

    tables: seeds (x, label, seed, seed_value) and means (x, label, mean, low, high), without x where a setting has no
    place on the scale: it stands in a panel at the side; without_value (x, label, outcome); trend (x, y); settings (at,
    label) that papers used, as marks; published (at, value, benchmark, model), in a panel apart with its own axis.
    """
    style, published = arm_styles([loss])[loss], tables["published"]
    off = pd.concat([tables[name].loc[tables[name]["x"].isna(), "label"] for name in ("means", "without_value")])
    off_labels = list(dict.fromkeys(off))
    widths = [2.0, *([0.12 + 0.2 * len(off_labels)] if off_labels else []), *([] if published.empty else [1.0])]
    figure, axes = grid(1, len(widths), 3.4, width_ratios=widths)
    on_scale = {name: tables[name].dropna(subset=["x"]) for name in ("seeds", "means", "without_value")}
    _values(axes[0], on_scale, style)
    log = bool((on_scale["seeds"]["x"] > 0).all())
    ticks = pd.concat([on_scale["seeds"], on_scale["without_value"]]).assign(parameter=parameter)
    parameter_axis(axes[0], "x", ticks, "log" if log else "linear")
    axes[0].plot(tables["trend"]["x"], tables["trend"]["y"], color=style.color, linewidth=1.3, linestyle=TREND_LINE)
    _settings(axes[0], tables["settings"])
    if off_labels:
        _off_scale(axes[1], tables, off_labels, style)
    given = pd.concat([tables["seeds"]["seed_value"], tables["means"]["low"], tables["means"]["high"]])
    value_axis(axes[: 2 if off_labels else 1], given, not tables["without_value"].empty)
    axes[0].set_ylabel(VALUE)
    if not published.empty:
        _published(axes[-1], published, parameter)
    handles = _legend(style, trend, set(tables["without_value"]["outcome"]))
    figure.legend(handles=handles, loc="outside upper center", ncols=3 if len(handles) == 3 else 2)
    return figure


def _values(ax: Axes, tables: Mapping[str, pd.DataFrame], style: ArmStyle) -> None:
    """Seeds as dots, joined where there is a scale between them, and each mean with its interval."""
    for _, of_seed in tables["seeds"].groupby("seed", sort=True):
        ax.plot(of_seed["x"], of_seed["seed_value"], ".-", color=SEED, linewidth=0.6, markersize=4, zorder=2)
    means = tables["means"].dropna(subset=["low"])
    ax.vlines(means["x"], means["low"], means["high"], color=style.color, linewidth=1.6, zorder=3)
    means = tables["means"]
    ax.plot(
        means["x"],
        means["mean"],
        style.marker,
        color=style.color,
        markersize=6,
        markeredgecolor="white",
        linestyle="",
        zorder=4,
    )
    draw_without_value(ax, tables["without_value"])


def _off_scale(ax: Axes, tables: Mapping[str, pd.DataFrame], labels: list[str], style: ArmStyle) -> None:
    """The settings without a number, side by side, on the same scale of values."""
    place = {label: float(at) for at, label in enumerate(labels)}
    rows = {name: tables[name][tables[name]["x"].isna()] for name in ("seeds", "means", "without_value")}
    placed = {name: table.assign(x=table["label"].map(place)) for name, table in rows.items()}
    # A seed's dots are joined along a scale only, and here is none.
    seeds = placed["seeds"]
    ax.plot(seeds["x"], seeds["seed_value"], ".", color=SEED, markersize=4, zorder=2)
    _values(ax, placed | {"seeds": seeds.iloc[:0]}, style)
    ax.set_xticks(list(place.values()), labels)
    ax.set_xlim(-0.6, len(labels) - 0.4)
    ax.set_xlabel("off the scale")
    ax.tick_params(axis="y", labelleft=False)


def _settings(ax: Axes, settings: pd.DataFrame) -> None:
    """The settings that papers used, as vertical marks with their names above the panel."""
    for _, row in settings.iterrows():
        ax.axvline(row["at"], color=PUBLISHED, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
        name = ax.text(row["at"], 1.01, row["label"], transform=ax.get_xaxis_transform(), size=7, color=GREY)
        name.set(ha="center", va="bottom")


def _published(ax: Axes, values: pd.DataFrame, parameter: str) -> None:
    """Published values in grey, hollow, on an axis of their own and on another ground."""
    ax.set_facecolor("#f4f4f4")
    ticks = sorted(set(values["at"]))
    for (benchmark, rows), mark in zip(values.groupby("benchmark", sort=True), PUBLISHED_MARKS, strict=False):
        (line,) = ax.plot(rows["at"], rows["value"], color=PUBLISHED, markersize=5, label=str(benchmark))
        line.set(linestyle="", marker=mark, markerfacecolor="white")
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{at:g}" for at in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.12)
    ax.set_ylim(0, 1.3 * float(values["value"].max()))
    models = ", ".join(dict.fromkeys(str(model).rsplit("/", 1)[-1] for model in values["model"]))
    ax.set_title(f"Published: {models}", fontsize=8)
    ax.set_xlabel(parameter)
    ax.set_ylabel("accuracy, peak of a single run")
    ax.legend(loc="upper left", ncols=2, fontsize=7, handletextpad=0.2, columnspacing=1.0)


def _legend(style: ArmStyle, trend: str, outcomes: set[str]) -> list[Line2D]:
    mean = {"color": style.color, "marker": style.marker, "markersize": 6, "linewidth": 1.6}
    return [
        Line2D([], [], label="mean, 95 % t interval", **mean),  # type: ignore[arg-type]
        Line2D([], [], color=SEED, marker=".", linewidth=0.6, markersize=4, label="one seed"),
        Line2D([], [], color=style.color, linewidth=1.3, linestyle=TREND_LINE, label=trend),
        *(
            Line2D([], [], linestyle="", marker=marker, color=color, markeredgewidth=1.3, label=label)
            for state, (marker, color, label) in WITHOUT_VALUE.items()
            if state in outcomes
        ),
    ]
