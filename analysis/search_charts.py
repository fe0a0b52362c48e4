"""A search's figures in the order of its report, each with its data, its caption and the name of its files."""

from collections.abc import Callable, Sequence

from analysis.chart import Chart
from analysis.figures_search import expected_maximum_curves, optimisation_history, parameter_slices
from analysis.figures_space import contour, designed_grid, importances
from analysis.formatting import counted, plain
from analysis.published import published, published_settings
from analysis.search_findings import SearchFindings
from analysis.search_records import PARAMETER, Search
from analysis.search_views import (
    ENDED,
    ended_trials,
    grid_values,
    importance_table,
    scales,
    seed_values,
    slices,
    spending,
    word,
)
from analysis.style import arm_label
from analysis.surface import surface

PAIR = ("fipo_clip_range", "fipo_safety_threshold")
FEWEST_FOR_CONTOUR = 6
FEWEST_FOR_IMPORTANCE = 20
ADAPTIVE = ("tpe", "gp")
LEARNS = (
    "The sampler learns from earlier trials, so its trials are not exchangeable: the curve describes these trials and "
    "estimates nothing about another search."
)
DRAWN = "The trials were drawn without regard to results, so the curve also estimates what another such search finds."
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
    figure = optimisation_history(trials, seeds)
    return [Chart("history", "Optimisation history", caption, figure, {"trials": trials, "seeds": seeds})]


def _expected_maximum(found: SearchFindings) -> list[Chart]:
    curves = spending(found.search)
    floors = curves.groupby("loss", sort=False)["floor"].first()
    words = ", ".join(f"{arm_label(str(loss))} {plain(floor)}" for loss, floor in floors.items())
    sampler = found.search.description["sampler"].get("name")
    caption = (
        "Expected best value of n trials drawn at random, without replacement, from those that were run (Dodge et al. "
        "2019, arXiv 1909.03004, there with replacement). Compare losses at the same n: the longer a loss is tuned, "
        "the higher its best. A trial without a feasible value is a trial spent: it counts as the accuracy before "
        f"training ({words}), that of the model one then still has; no trial counts as less. Band: 5 % to 95 % of "
        "such draws, cut where it leaves the scale. It closes at the right because there is one way to draw all "
        "trials, not because the best is known there; seed noise is not in it. "
        f"{LEARNS if sampler in ADAPTIVE else DRAWN} {trial_counts(found.search)}"
    )
    title = "Best found against trials spent"
    return [Chart("expected_maximum", title, caption, expected_maximum_curves(curves), {"curves": curves})]


def _slices(found: SearchFindings) -> list[Chart]:
    charts = []
    for loss in found.search.losses:
        rows = slices(found.search, loss)
        if rows["value"].isna().all():
            continue
        caption = (
            "Value over each searched parameter, the others varying too. Large marks: trials; small dots: their seeds; "
            "trials without a value stand in the strip below, at the value they had. A search looks where it found "
            "much, so the points are no even sample and a slope along them is no effect. "
            f"{trial_counts(found.search, loss)}"
        )
        shown = {name: scale for name, scale in scales(found.search, loss).items() if name in set(rows["parameter"])}
        figure = parameter_slices(rows, shown, loss)
        charts.append(Chart(f"slices_{loss}", f"Slices: {arm_label(loss)}", caption, figure, {"trials": rows}))
    return charts


def _contour(found: SearchFindings) -> list[Chart]:
    return [chart for loss in found.search.losses if (chart := _contour_of(found.search, loss)) is not None]


def _contour_of(search: Search, loss: str) -> Chart | None:
    if not set(PAIR) <= set(search.searched(loss)) or not all(search.is_numeric(name) for name in PAIR):
        return None
    columns = [PARAMETER + name for name in PAIR]
    rows = search.of(loss)[search.of(loss)["outcome"].isin(ENDED)].dropna(subset=columns)
    trials = rows.rename(columns=dict(zip(columns, ("x", "y"), strict=True)))[["trial", "x", "y", "value", "outcome"]]
    valued = trials.dropna(subset=["value"])
    kinds = [scales(search, loss)[name] for name in PAIR]
    found = None if len(valued) < FEWEST_FOR_CONTOUR else surface(valued[["x", "y"]], valued["value"], kinds)
    if found is None:
        return None
    caption = (
        f"{len(valued)} trials with a value, in the colours of the surface between them: a thin-plate spline whose "
        "smoothing predicts left-out trials best; nothing is drawn outside the trials' hull. The other parameters vary "
        f"too. {_predicts(found.predicted)} {trial_counts(search, loss)}"
    )
    figure = contour(found.table, trials, PAIR, (kinds[0], kinds[1]))
    title = f"Clip range and safety threshold: {arm_label(loss)}"
    return Chart(f"contour_{loss}", title, caption, figure, {"surface": found.table, "trials": trials})


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
    return [Chart("importance", "Importance of the parameters", caption, importances(table), {"values": table})]


def _designed_grid(found: SearchFindings) -> list[Chart]:
    charts = []
    for item in found.trends:
        seeds, means = grid_values(found.search, item.loss, item.parameter)
        seeds = seeds.assign(parameter=item.parameter, label=[word(x) for x in seeds["x"]])
        trials = found.search.of(item.loss).rename(columns={PARAMETER + item.parameter: "x"})
        missing = trials.loc[trials["outcome"].isin(ENDED) & trials["value"].isna(), ["trial", "x", "outcome"]]
        missing = missing.assign(parameter=item.parameter, label=[word(x) for x in missing["x"]])
        caption = (
            "A designed grid: every value with the same seeds. Dots joined by thin lines: one seed. Large marks: mean "
            f"and 95 % t interval over seeds. {item.sentence} Tested is the slope over log2 of the value, one per "
            "seed, by a t test over seeds: it sees what rises or falls throughout, and never the best value against "
            "the worst."
        )
        settings, values = published_settings(), published()
        papers = tuple(rows[rows["parameter"] == item.parameter] for rows in (settings, values))
        if len(papers[1]):
            caption += (
                " Right, apart: what the paper reports, peaks of single runs of Qwen2.5-Math-7B on AIME, whose order "
                "is another on either benchmark; nothing measured here is compared with them."
            )
        figure = designed_grid(seeds, means, missing, item.loss, (papers[0], papers[1]))
        tables = {"seeds": seeds, "means": means, "without_value": missing, "published": papers[1]}
        title = f"Grid over {item.parameter}"
        told = "; ".join(f"{row['x']:g}: {row['mean']:.3f}" for _, row in means.iterrows())
        alt = f"Final accuracy over {item.parameter}, mean over seeds at each value: {told}. {item.sentence}"
        charts.append(Chart(f"designed_grid_{item.loss}", title, caption, figure, tables, alt))
    return charts


SEARCH_CHARTS: dict[str, Callable[[SearchFindings], list[Chart]]] = {
    "history": _history,
    "expected_maximum": _expected_maximum,
    "slices": _slices,
    "contour": _contour,
    "importance": _importance,
    "designed_grid": _designed_grid,
}


def trial_counts(search: Search, only: str | None = None) -> str:
    """How many trials there are, by loss and by what became of them."""
    parts = []
    for loss in [only] if only else search.losses:
        counts = search.of(loss)["outcome"].value_counts()
        words = [f"{counts[outcome]} {outcome}" for outcome in (*ENDED, "running", "waiting") if outcome in counts]
        parts.append(f"{arm_label(loss)} {', '.join(words) or 'none yet'}")
    return f"Trials of {counted(len(search.description['seeds']), 'tuning seed')}: {'; '.join(parts)}."
