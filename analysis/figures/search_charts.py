"""A search's figures in the order of its report, each with its data, its caption and the name of its files."""

from collections.abc import Callable, Sequence

import pandas as pd

from analysis.figures.chart import Chart
from analysis.figures.figures_space import contour, importances
from analysis.figures.search import expected_maximum_curves, optimisation_history, parameter_slices
from analysis.figures.search_alt import contour_alt, expected_maximum_alt, history_alt, importance_alt, slices_alt
from analysis.figures.search_grid_chart import grid_chart
from analysis.figures.search_views import (
    ENDED,
    ended_trials,
    importance_table,
    scales,
    seed_values,
    slices,
    spending,
)
from analysis.figures.style import arm_label
from analysis.figures.surface import surface
from analysis.formatting import counted, plain
from analysis.records.search import PARAMETER, Search
from analysis.verdict.search_findings import SearchFindings
from analysis.verdict.search_grid import on_scale

PAIR = ("fipo_clip_range", "fipo_safety_threshold")
FEWEST_FOR_CONTOUR = 6
FEWEST_FOR_IMPORTANCE = 20
LEARNS = (
    "The sampler learns from earlier trials, so its trials are not exchangeable: the curve describes these trials and "
    "estimates nothing about another search."
)
DRAWN = "The trials were drawn without regard to results, so the curve also estimates what another such search finds."
GRID = (
    "The trials are a grid, fixed beforehand: the curve describes its settings in a random order and estimates nothing "
    "about others."
)
SPENDING = {"tpe": LEARNS, "gp": LEARNS, "grid": GRID}
LOOKED = (
    "The others vary too, and a search looks where it found much, so the points are no even sample and a slope along "
    "them is no effect."
)
CROSSED = "The others vary too, each combination once: at a value of one parameter lie the trials of all the others."
PED_WARNING = (
    "PED-ANOVA alone ranked a parameter that does nothing first in 7 of 12 studies in which the truth was known (60 "
    "noisy trials; one real parameter, three without effect); fANOVA ranked the real one first in 12 of 12, but drops "
    "conditional parameters. Both describe the trials of one search and have no interval."
)


def search_charts(found: SearchFindings, names: Sequence[str] = ()) -> list[Chart]:
    """The figures of a search's report, all or those named, those without data left out."""
    return [chart for name in names or SEARCH_CHARTS for chart in SEARCH_CHARTS[name](found)]


def _history(found: SearchFindings) -> list[Chart]:
    trials = ended_trials(found.search).rename(columns={"order": "x"})
    seeds = seed_values(found.search).merge(trials[["loss", "trial", "x"]], on=["loss", "trial"])
    caption = (
        "Every trial in the order in which it ended. Large marks: a trial's value, the mean over its tuning seeds; "
        "small dots: each seed. Trials without a value stand in the strip below, where they happened: infeasible "
        "(diverged or out of memory), failed (its process died or ended in an error) or pruned. The line is the best "
        "feasible value so far; it is a maximum of noisy numbers and rises even among equally good trials. "
        f"{trial_counts(found.search)}"
    )
    figure, tables = optimisation_history(trials, seeds), {"trials": trials, "seeds": seeds}
    return [Chart("history", "Optimisation history", caption, figure, tables, history_alt(trials))]


def _expected_maximum(found: SearchFindings) -> list[Chart]:
    curves = spending(found.search)
    floors = curves.groupby("loss", sort=False)["floor"].first()
    words = ", ".join(f"{arm_label(str(loss))} {plain(floor)}" for loss, floor in floors.items())
    caption = (
        "Expected best value of n trials drawn at random, without replacement, from those that were run (Dodge et al. "
        "2019, arXiv 1909.03004, there with replacement). Compare losses at the same n: the longer a loss is tuned, "
        "the higher its best. A trial without a feasible value is a trial spent: it counts as the accuracy before "
        f"training ({words}), that of the model one then still has; no trial counts as less. Band: 5 % to 95 % of "
        "such draws, cut where it leaves the scale. It closes at the right because there is one way to draw all "
        "trials, not because the best is known there; seed noise is not in it. "
        f"{SPENDING.get(_sampler(found.search), DRAWN)} {trial_counts(found.search)}"
    )
    figure, title = expected_maximum_curves(curves), "Best found against trials spent"
    return [Chart("expected_maximum", title, caption, figure, {"curves": curves}, expected_maximum_alt(curves))]


def _slices(found: SearchFindings) -> list[Chart]:
    charts = []
    designed = {item.loss for item in found.trends}  # drawn as such, with the same points
    for loss in [loss for loss in found.search.losses if loss not in designed]:
        rows = slices(found.search, loss)
        if rows["value"].isna().all():
            continue
        caption = (
            "Value over each searched parameter. Large marks: trials; small dots: their seeds; trials without a value "
            "stand in the strip below, at the value they had. "
            f"{CROSSED if _sampler(found.search) == 'grid' else LOOKED} {trial_counts(found.search, loss)}"
        )
        shown = {name: scale for name, scale in scales(found.search, loss).items() if name in set(rows["parameter"])}
        figure = parameter_slices(rows, shown, loss)
        title, alt = f"Slices: {arm_label(loss)}", slices_alt(rows, loss)
        charts.append(Chart(f"slices_{loss}", title, caption, figure, {"trials": rows}, alt))
    return charts


def _contour(found: SearchFindings) -> list[Chart]:
    return [chart for loss in found.search.losses if (chart := _contour_of(found.search, loss)) is not None]


def _contour_of(search: Search, loss: str) -> Chart | None:
    if not set(PAIR) <= set(search.searched(loss)):
        return None
    trials, left_out = _pairs(search, loss)
    valued = trials.dropna(subset=["value"])
    kinds = tuple("linear" if search.searched(loss)[name].get("kind") == "step" else "log" for name in PAIR)
    found = None if len(valued) < FEWEST_FOR_CONTOUR else surface(valued[["x", "y"]], valued["value"], kinds)
    if found is None:
        return None
    others = len(search.searched(loss)) > len(PAIR)
    seeds = counted(len(search.description["seeds"]), "tuning seed")
    caption = (
        f"{len(valued)} trials with a value, the mean over {seeds}, in the colours of the surface between them: a "
        "thin-plate spline whose smoothing predicts left-out trials best; nothing is drawn outside the trials' hull. "
        f"{'The other parameters vary too. ' if others else ''}{_predicts(found.predicted)} {left_out}"
        f"The surface has no interval: that one place is better than another does not follow from it. "
        f"{trial_counts(search, loss)}"
    )
    figure = contour(found.table, trials, PAIR, (kinds[0], kinds[1]))
    title, alt = f"Clip range and safety threshold: {arm_label(loss)}", contour_alt(found.table, trials, PAIR)
    return Chart(f"contour_{loss}", title, caption, figure, {"surface": found.table, "trials": trials}, alt)


def _pairs(search: Search, loss: str) -> tuple[pd.DataFrame, str]:
    """The ended trials at (x, y) of the contour, and in words those that have no place there (`none`)."""
    rows = search.of(loss)[search.of(loss)["outcome"].isin(ENDED)].dropna(subset=[PARAMETER + name for name in PAIR])
    x, y = (on_scale(name, rows[PARAMETER + name]) for name in PAIR)
    placed = rows.assign(x=x, y=y)[["trial", "x", "y", "value", "outcome"]].dropna(subset=["x", "y"])
    off = len(rows) - len(placed)
    switched_off = "since one of the two was switched off and so has no place on its scale. "
    return placed, f"Not drawn: {counted(off, 'trial')}, {switched_off}" if off else ""


def _predicts(share: float) -> str:
    if share <= 0:
        return "It predicts a trial left out no better than the plain mean does, so no shape should be read from it."
    return f"Predicting a trial left out, it has {1 - share:.0%} of the plain mean's squared error."


def _importance(found: SearchFindings) -> list[Chart]:
    table = importance_table(found.search)
    if table["importance"].isna().all():
        return []
    counts = {str(loss): int(n) for loss, n in table.groupby("loss", sort=False)["trials"].first().items()}
    caption = f"Bars: fANOVA, the one to read. Hollow marks: PED-ANOVA beside it. {PED_WARNING} Trials used: "
    caption += ", ".join(f"{arm_label(loss)} {n}" for loss, n in counts.items()) + "."
    if few := [arm_label(loss) for loss, n in counts.items() if n < FEWEST_FOR_IMPORTANCE]:
        caption += f" With fewer than {FEWEST_FOR_IMPORTANCE} trials ({', '.join(few)}) neither is worth much."
    figure, title = importances(table), "Importance of the parameters"
    return [Chart("importance", title, caption, figure, {"values": table}, importance_alt(table))]


def _designed_grid(found: SearchFindings) -> list[Chart]:
    return [grid_chart(found.search, item) for item in found.trends]


def _sampler(search: Search) -> str:
    return str(search.description["sampler"].get("name"))


SEARCH_CHARTS: dict[str, Callable[[SearchFindings], list[Chart]]] = {
    "designed_grid": _designed_grid,
    "history": _history,
    "expected_maximum": _expected_maximum,
    "slices": _slices,
    "contour": _contour,
    "importance": _importance,
}


def trial_counts(search: Search, only: str | None = None) -> str:
    """How many trials there are, by loss and by what became of them."""
    parts = []
    for loss in [only] if only else search.losses:
        counts = search.of(loss)["outcome"].value_counts()
        words = [f"{counts[outcome]} {outcome}" for outcome in (*ENDED, "running", "waiting") if outcome in counts]
        parts.append(f"{arm_label(loss)} {', '.join(words) or 'none yet'}")
    return f"Trials of {counted(len(search.description['seeds']), 'tuning seed')}: {'; '.join(parts)}."
