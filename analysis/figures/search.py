"""A search's course: its history, and the importance of its parameters."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.figures.canvas import Axes, Drawing, grid, handle, whole_steps
from analysis.figures.figure import Figure
from analysis.figures.style import ArmStyle, Styles, loss_styles, paper
from analysis.figures.trials import VALUE, draw_trials, ended_trials, trial_counts, trial_legend, value_axis
from analysis.formatting import plain
from analysis.records.search import Search, seed_values
from analysis.verdict.search import SearchFindings

FEWEST_FOR_IMPORTANCE = 20


def history_figures(found: SearchFindings) -> Iterator[Figure]:
    """Every trial in the order in which it ended, and the best feasible value so far."""
    trials = ended_trials(found.search)[["loss", "trial", "order", "outcome", "value", "best"]]
    trials = trials.rename(columns={"order": "x"})
    seeds = seed_values(found.search).merge(trials[["loss", "trial", "x"]], on=["loss", "trial"])
    last = trials.groupby("loss", sort=False)["best"].last()
    yield Figure(
        "history",
        "Optimisation history",
        "Every trial in the order in which it ended; the line is the best feasible value so far, a maximum of noisy "
        "numbers that rises even among equally good trials.",
        draw_history(trials, seeds, loss_styles(found.search.losses)),
        {"trials": trials, "seeds": seeds},
        "Values of trials in order. Best so far: "
        + "; ".join(f"{loss} {plain(best)}" for loss, best in last.items())
        + ".",
        "Trials without a value stand in the strip below: infeasible (diverged or out of memory), failed (the process "
        f"died or ended in an error) or pruned. {trial_counts(found.search)}",
    )


def importance_figures(found: SearchFindings) -> Iterator[Figure]:
    """fANOVA of each loss with several searched parameters; none where it could not be computed."""
    table = importance_table(found.search)
    if table.empty:
        return
    counts = {str(loss): int(n) for loss, n in table.groupby("loss", sort=False)["trials"].first().items()}
    few = any(n < FEWEST_FOR_IMPORTANCE for n in counts.values())
    words = f" Fewer than {FEWEST_FOR_IMPORTANCE} trials: it is not worth much." if few else ""
    top = table.groupby("loss", sort=False)["parameter"].first()
    yield Figure(
        "importance",
        "Importance of the parameters",
        f"fANOVA: shares of the variance of the value between these trials, without an interval.{words}",
        draw_importance(table, loss_styles(found.search.losses)),
        {"values": table},
        "Importances. Most important by fANOVA: " + "; ".join(f"{loss} {name}" for loss, name in top.items()) + ".",
        "Conditional parameters are left out of it. Trials used: "
        + ", ".join(f"{loss} {n}" for loss, n in counts.items())
        + ".",
    )


def importance_table(search: Search) -> pd.DataFrame:
    """loss, parameter, importance (by fANOVA, nan where unknown), trials; the most important first."""
    rows = []
    for loss in search.losses:
        recorded = search.importance.get(loss) or {}
        known = recorded.get("fanova") or {}
        names = search.searched(loss)
        if len(names) > 1 and known:
            order = sorted(names, key=lambda name: -known.get(name, -1.0))
            rows += [(loss, name, known.get(name, np.nan), int(recorded.get("trials") or 0)) for name in order]
    return pd.DataFrame(rows, columns=["loss", "parameter", "importance", "trials"])


@paper()
def draw_history(trials: pd.DataFrame, seeds: pd.DataFrame, styles: Styles) -> Drawing:
    """Axes per loss. trials: loss, x, outcome, value, best. seeds: loss, x, seed_value."""
    losses, outcomes = list(dict.fromkeys(trials["loss"])), set(trials["outcome"])
    columns = min(3, len(losses))
    rows = -(-len(losses) // columns)
    drawing, axes = grid(rows, columns, 2.4 * rows + 0.7, sharey=True)
    for ax, loss in zip(axes, losses, strict=False):
        of_loss, style = trials[trials["loss"] == loss], styles[loss]
        ax.plot(of_loss["x"], of_loss["best"], drawstyle="steps-post", color=style.color, linewidth=1.4, zorder=3)
        draw_trials(ax, of_loss, seeds[seeds["loss"] == loss], style)
        ax.set_title(style.label)
        ax.set_xlabel("trials ended")
        whole_steps(ax)
    for ax in axes[len(losses) :]:
        ax.axis("off")
    axes[0].set_ylabel(VALUE)
    value_axis(axes[: len(losses)], pd.concat([trials["value"], seeds["seed_value"]]), outcomes)
    best = handle("best so far", color="#555555", drawstyle="steps-post", linewidth=1.4)
    trial_legend(drawing, outcomes, [best])
    return drawing


@paper()
def draw_importance(table: pd.DataFrame, styles: Styles) -> Drawing:
    """Axes per loss. table: as `importance_table` gives it."""
    losses = list(dict.fromkeys(table["loss"]))
    counts = [table.loc[table["loss"] == loss, "parameter"].nunique() for loss in losses]
    options = {"sharex": True, "gridspec_kw": {"height_ratios": [count + 0.8 for count in counts]}}
    drawing, axes = grid(len(losses), 1, 0.27 * sum(counts) + 0.55 * len(losses) + 0.75, **options)
    for ax, loss in zip(axes, losses, strict=True):
        _bars(ax, table[table["loss"] == loss], styles[loss])
    axes[-1].set_xlabel("importance by fANOVA (shares that sum to 1)")
    return drawing


def _bars(ax: Axes, rows: pd.DataFrame, style: ArmStyle) -> None:
    ax.barh(rows["parameter"], rows["importance"].fillna(0.0), color=style.color, height=0.6, alpha=0.8)
    for place, value in enumerate(rows["importance"]):
        if np.isnan(value):
            ax.text(0.005, place, "no fANOVA", va="center", size=6.5)
    ax.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0.0, 1.02))
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.set_title(f"{style.label}, {int(rows['trials'].iloc[0])} trials")
