"""Is it credit? Gradients beside the true one, weights beside true credit, and where in a response both lie."""

from collections.abc import Iterator
from math import nan

import numpy as np
import pandas as pd

from analysis.figures.canvas import Axes, Drawing, fitting, fold, handle, legend, name_rows, sheet, zero_line
from analysis.figures.figure import Figure
from analysis.figures.style import SOFT, Look, paper
from analysis.formatting import counted
from analysis.records.credit import REFERENCE
from analysis.verdict.credit import SIGNS, CreditFindings
from analysis.verdict.findings import Findings

KINDS = {
    "loss": ("losses", "#0072B2"),
    "placebo": ("placebos of FIPO [0.5, 1.5]", "#CC79A7"),
    "variant": ("other weights in [0.5, 1.5]", "#56B4E9"),
    "polarity": ("DAPO, negatives scaled", "#E69F00"),
    "control": ("negatives moved by the task", "#8C6D1F"),
    "truth": ("true credit", "#009E73"),
}
SIGN_COLORS = {1: "#0072B2", -1: "#D55E00"}
DETAILS = (
    "Every candidate's gradient is taken on the same minibatch, at the same weights, of a recorded run. The true "
    "gradient is estimated from fresh responses, twice; the cosine that the true gradient itself would have to that "
    "estimate is {ceiling:.2f}. True credit: the change of the chance of a right answer from token to token, by Monte "
    "Carlo continuations of prefixes; its reliability within responses is about {reliability:.2f}. A "
    "correlation above 0 means that weight is on the tokens that earned their advantage, for either sign of it. "
    "Intervals: t, 95 %, over {units}."
)


def credit_figures(found: Findings) -> Iterator[Figure]:
    """One figure; none where no run was measured by the microscope."""
    credit = found.credit
    if credit is None:
        return
    units = counted(len(credit.cosines), credit.unit)
    tables = {
        "directions": credit.directions,
        "units": credit.cosines.reset_index(),
        "agreement": credit.agreement,
        "places": credit.places,
    }
    yield Figure(
        "credit",
        "Is it credit?",
        f"Left: how much nearer to the true gradient of accuracy than DAPO's. Right: whether weights lie where credit "
        f"lies. Means and 95 % t intervals over {units}; small dots: each {credit.unit}.",
        draw_credit(credit),
        tables,
        "Cosine to the true gradient minus DAPO's: "
        + "; ".join(f"{row.label} {row.minus_dapo:+.3f}" for row in credit.directions.itertuples())
        + ".",
        DETAILS.format(ceiling=credit.ceiling, reliability=credit.reliability, units=units),
    )


@paper()
def draw_credit(credit: CreditFindings) -> Drawing:
    """Left the directions, right above the agreement, right below the places."""
    rows = credit.directions[credit.directions["candidate"] != REFERENCE].reset_index(drop=True)
    height = 0.24 * len(rows) + 0.8
    wide = fitting(2) == 2
    drawing = sheet(height + 0.3 if wide else 2 * height + 0.8)
    mosaic, ratios = ("DA;DP", [3, 2]) if wide else ("D;A;P", [5, 3, 2])
    places = drawing.subplot_mosaic(mosaic, height_ratios=ratios, width_ratios=[1.1, 1][: fitting(2)])
    _directions(places["D"], rows, credit.cosines)
    _agreement(places["A"], credit.agreement)
    _places(places["P"], credit.places)
    kinds = [
        handle(words, color=color, marker="o") for kind, (words, color) in KINDS.items() if kind in set(rows["kind"])
    ]
    legend(drawing, kinds)
    return drawing


def _directions(ax: Axes, rows: pd.DataFrame, cosines: pd.DataFrame) -> None:
    for place, row in rows.iterrows():
        y, color = float(str(place)), KINDS[row["kind"]][1]
        each = cosines[row["candidate"]] - cosines[REFERENCE]
        dots: Look = {"color": SOFT, "markersize": 3, "alpha": 0.6, "markeredgewidth": 0}
        ax.plot(each, np.full(len(each), y + 0.26), "o", **dots)
        _interval(ax, y, row, "minus_dapo", color)
    zero_line(ax)
    name_rows(ax, list(rows["label"]))
    ax.set_xlabel(fold("cosine to the true gradient, minus DAPO's"))


def _agreement(ax: Axes, table: pd.DataFrame) -> None:
    labels = list(dict.fromkeys(table["label"]))
    for row in table.to_dict("records"):
        y = labels.index(row["label"]) + (-0.14 if row["sign"] > 0 else 0.14)
        _interval(ax, y, pd.Series(row), "correlation", SIGN_COLORS[row["sign"]], size=4.5)
    zero_line(ax)
    name_rows(ax, labels)
    ax.tick_params(axis="y", labelsize=6.5)
    ax.set_xlabel(fold("rank correlation with credit"))
    ax.set_title("blue: A > 0; orange: A < 0", size=7)


def _places(ax: Axes, table: pd.DataFrame) -> None:
    for sign in SIGNS:
        rows = table[table["sign"] == sign]
        ax.plot(rows["place"], rows["credit"], color=SIGN_COLORS[sign], marker="o", markersize=3)
        ax.plot(rows["place"], rows["distance"], color=SIGN_COLORS[sign], linestyle=(0, (2, 1.2)), linewidth=1.1)
    ax.set_xlabel("place in the response")
    ax.set_ylim(bottom=0)
    ax.set_title(fold("credit, and dashed |weight \N{MINUS SIGN} 1|"), size=7)


def _interval(ax: Axes, y: float, row: pd.Series, name: str, color: str, size: float = 5.5) -> None:
    if np.isfinite(row.get("low", nan)):
        ax.plot([row["low"], row["high"]], [y, y], color=color, linewidth=2.0, solid_capstyle="butt", zorder=3)
    ax.plot(row[name], y, "o", color=color, markersize=size, markeredgecolor="white", zorder=4)
