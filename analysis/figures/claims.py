"""The claims: each effect seed by seed, with the interval that decides it, against its margin."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.figures.canvas import Axes, Drawing, fitting, grid, handle, legend, name_rows, zero_line
from analysis.figures.figure import Figure
from analysis.figures.style import INK, SOFT, Look, paper
from analysis.records.study import Study
from analysis.verdict.findings import Findings
from analysis.verdict.verdicts import Verdict

WORD_COLORS = {"supported": "#007A5A", "contradicted": "#C04A00"}
HOLDS, ROW = "#dfeaf3", 0.36
MOST_IN_ONE = 8
DETAILS = (
    "Small dots: the differences of single seeds. Thick bar: the interval that decides; for primary claims at level "
    "1 - .05/m (Bonferroni; for an equivalence twice the error, as two one-sided tests have it), for exploratory ones "
    "at 95 %. Thin bar: the same effect with starts as units: warm starts, or states of forks. A claim is supported "
    "where the thick bar lies wholly in the shaded region, contradicted where it lies wholly outside, else undecided; "
    "with fewer than 5 seeds it is undecided whatever the bar."
)


def claim_figures(found: Findings) -> Iterator[Figure]:
    """All claims in one forest plot; where they are many, primary and exploratory ones apart."""
    primary = [item for item in found.verdicts if item.is_primary]
    rest = [item for item in found.verdicts if not item.is_primary]
    apart = len(found.verdicts) > MOST_IN_ONE and primary and rest
    parts = {"claims": primary, "claims_exploratory": rest} if apart else {"claims": [*primary, *rest]}
    for name, items in parts.items():
        if items:
            yield _figure(found.study, name, items)


def _figure(study: Study, name: str, items: Sequence[Verdict]) -> Figure:
    told = "; ".join(f"{item.key} {item.claim.text}: {item.word}, {item.effect}" for item in items)
    rows, seeds, (seed, start) = claims_frame(study, items), seed_frame(items), study.units
    thin = f"; thin bar: with {start}s as units" if rows["starts_low"].notna().any() else ""
    what = "The exploratory claims" if name != "claims" else "The claims"
    return Figure(
        name,
        f"{what} and their effects",
        f"Dots: {seed}s. Thick bar: the interval that decides{thin}. Filled marks: primary claims. Shaded: where the "
        "claim holds.",
        draw_claims(rows, seeds, study.units),
        {"verdict": rows, "seeds": seeds},
        f"A forest plot of {len(items)} claims. {told}.",
        DETAILS,
    )


def compared_words(study: Study, item: Verdict) -> str:
    """What is compared, in the arms' labels and, where there are several, their blocks: `tuned: FIPO - DAPO`."""
    words = " \N{MINUS SIGN} ".join(study.label(arm) for _, arm in item.sides)
    if item.claim.metric.startswith("credit/"):
        words = f"{words}: {item.claim.metric.partition('/')[2]}"
    if item.claim.parameter:
        words += f", {item.claim.parameter} {item.claim.start:g} to {item.claim.end:g}"
    return f"{item.sides[0][0]}: {words}" if len(study.blocks) > 1 else words


def claims_frame(study: Study, items: Sequence[Verdict]) -> pd.DataFrame:
    """A row per claim, for drawing and for files."""
    rows = []
    for item in items:
        claim, shown = item.claim, item.evidence
        starts = item.over_starts
        kept = ("metric", "kind", "direction", "margin", "arm", "baseline", "source")
        rows.append(
            {"key": item.key, "claim": claim.text, "compared": compared_words(study, item), "role": claim.role}
            | {name: getattr(claim, name) for name in kept}
            | {name: getattr(shown, name) for name in ("method", "effect", "low", "high", "level", "p")}
            | {"p_corrected": item.p_corrected, "n": len(item.differences), "collapsed": len(item.collapsed)}
            | {"starts_low": starts.low if starts else np.nan, "starts_high": starts.high if starts else np.nan}
            | {"unit": item.unit, "decision": item.decision, "verdict": item.word, "identical": item.identical}
        )
    return pd.DataFrame(rows)


def seed_frame(items: Sequence[Verdict]) -> pd.DataFrame:
    """The differences seed by seed: key, seed, difference."""
    rows = [(item.key, seed, value) for item in items for seed, value in item.differences.items()]
    return pd.DataFrame(rows, columns=["key", "seed", "difference"])


@paper()
def draw_claims(rows: pd.DataFrame, seeds: pd.DataFrame, said: tuple[str, str] = ("seed", "warm start")) -> Drawing:
    """Axes per metric, a row per claim. rows: as `claims_frame` gives them; seeds: as `seed_frame`; said: `units`."""
    units = list(dict.fromkeys(rows["unit"]))
    counts = [int((rows["unit"] == unit).sum()) for unit in units]
    row, ratios = ROW * sum(counts) / len(units) + 0.6, [n + 0.4 for n in counts]
    drawing, axes = grid(len(units), 1, row, 0.4, height_ratios=ratios)
    for ax, unit in zip(axes, units, strict=True):
        of_unit = rows[rows["unit"] == unit].reset_index(drop=True)
        _axes(ax, of_unit, seeds[seeds["key"].isin(of_unit["key"])])
        ax.set_xlabel(f"difference in {unit}" if of_unit["baseline"].notna().any() else unit, labelpad=1)
    marks = [
        handle("interval that decides", color=INK, marker="o", linewidth=2.2),
        handle(f"one {said[0]}", color=SOFT, marker="o", markersize=3, linestyle="", alpha=0.6),
        *([handle(f"{said[1]}s as units", color=SOFT, linewidth=0.9)] if rows["starts_low"].notna().any() else []),
        Patch(color=HOLDS, label="where the claim holds"),
    ]
    legend(drawing, marks)
    return drawing


def _axes(ax: Axes, rows: pd.DataFrame, seeds: pd.DataFrame) -> None:
    low, high = _limits(rows, seeds)
    ax.set_xlim(low, high)
    beside: Look = {"transform": ax.get_yaxis_transform(), "va": "center", "size": 7}
    for y, row in rows.iterrows():
        place = float(str(y))
        _shade(ax, row, place)
        color = WORD_COLORS.get(row["decision"], INK)
        _row(ax, row, (place, color), seeds.loc[seeds["key"] == row["key"], "difference"])
        ax.text(
            1.01, place, row["decision"], color=color, weight="bold" if row["role"] == "primary" else "normal", **beside
        )
    zero_line(ax)
    name_rows(ax, [f"{key}  {words}" for key, words in zip(rows["key"], rows["compared"], strict=True)])
    ax.tick_params(axis="y", labelsize=7)
    ax.xaxis.set_major_locator(MaxNLocator(fitting(6)))


def _row(ax: Axes, row: pd.Series, look: tuple[float, str], differences: pd.Series) -> None:
    place, color = look
    dots: Look = {"color": SOFT, "markersize": 3, "alpha": 0.6, "markeredgewidth": 0, "zorder": 2}
    ax.plot(differences, np.full(len(differences), place + 0.24), "o", **dots)
    if np.isfinite(row["starts_low"]):
        ax.plot([row["starts_low"], row["starts_high"]], [place - 0.22] * 2, color=SOFT, linewidth=0.9, zorder=2)
    if np.isfinite(row["low"]) and not row["identical"]:
        ax.plot([row["low"], row["high"]], [place] * 2, color=color, linewidth=2.2, solid_capstyle="butt", zorder=3)
    face = color if row["role"] == "primary" else "white"
    ax.plot(row["effect"], place, "o", color=color, markerfacecolor=face, markersize=5.5, zorder=4)


def _shade(ax: Axes, row: pd.Series, place: float) -> None:
    margin, (low, high) = float(row["margin"]), ax.get_xlim()
    if row["kind"] == "equivalent":
        edges = (-margin, margin)
    else:
        edges = (margin, high) if row["direction"] == "higher" else (low, -margin)
    ax.fill_betweenx([place - 0.42, place + 0.42], *edges, color=HOLDS, linewidth=0, zorder=0)


def _limits(rows: pd.DataFrame, seeds: pd.DataFrame) -> tuple[float, float]:
    """Room for all intervals that decide, both margins, every seed and 0; a thin bar may leave it."""
    ends = np.concatenate([rows[name].to_numpy(float) for name in ("low", "high", "effect")])
    ends = np.concatenate([ends, seeds["difference"].to_numpy(float), rows["margin"], -rows["margin"], [0.0]])
    ends = ends[np.isfinite(ends)]
    room = 0.06 * float(np.ptp(ends)) or 1.0
    return float(ends.min()) - room, float(ends.max()) + room
