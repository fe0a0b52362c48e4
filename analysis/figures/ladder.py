"""A ladder of arms, each differing from an earlier one in one setting: what each switch brought."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.records.outcomes import token_curves
from analysis.records.study import Study
from analysis.statistics.intervals import welch

FEWEST_RUNGS = 3


@dataclass(frozen=True)
class Rung:
    """An arm, the one that it is built on, and the one setting in which they differ."""

    arm: str
    parent: str
    field: str
    before: Any
    after: Any

    @property
    def label(self) -> str:
        """`epsilon_high 0.2 > 0.28`."""
        return f"{self.field} {_word(self.before)} \N{RIGHTWARDS ARROW} {_word(self.after)}"


def rungs(study: Study) -> list[Rung]:
    """The rungs among the arms with runs, in the study's order; none where the study is no ladder.

    An arm's parent is the nearest earlier arm that differs from it in exactly one setting. A loss brings its own
    settings (fipo_*) with its name: where the losses differ these are no differences beside it.
    """
    fields = {item["field"]: item["values"] for item in study.description.get("differences", [])}
    arms = study.compared_arms
    found = []
    for place, arm in enumerate(arms):
        for parent in reversed(arms[:place]):
            differing = _differing(fields, (parent.loss_type, arm.loss_type), parent.name, arm.name)
            if len(differing) == 1:
                (field,) = differing
                found.append(Rung(arm.name, parent.name, field, fields[field][parent.name], fields[field][arm.name]))
                break
    return found if len(found) >= FEWEST_RUNGS else []


def gains(study: Study, table: pd.DataFrame, steps: list[Rung]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each rung's gain over its parent, and the same seed by seed.

    The first: arm, parent, label, outcome, difference, low, high (Welch, 95 %, over seeds), n_arm, n_parent, tokens.
    outcome: `auc` at equal steps, `at_equal_tokens` evaluation accuracy where the more frugal arm of the two had
    spent its `tokens`. The second: arm, outcome, seed, difference.
    """
    curves = token_curves(study).dropna(subset=["evaluation_accuracy"])
    rows, seeds = [], []
    for rung in steps:
        budget = _budget(curves, (rung.arm, rung.parent))
        for outcome in ("auc", "at_equal_tokens"):
            a, b = (_scores(table, curves, name, outcome, budget) for name in (rung.arm, rung.parent))
            found = welch(a.to_numpy(float), b.to_numpy(float))
            head = {"arm": rung.arm, "parent": rung.parent, "label": rung.label, "outcome": outcome}
            numbers = {"difference": found.difference, "low": found.low, "high": found.high}
            tokens = budget if outcome == "at_equal_tokens" else np.nan
            rows.append(head | numbers | {"n_arm": len(a), "n_parent": len(b), "tokens": tokens})
            paired = (a - b).dropna()
            seeds += [{"arm": rung.arm, "outcome": outcome, "seed": s, "difference": d} for s, d in paired.items()]
    return pd.DataFrame(rows), pd.DataFrame(seeds, columns=["arm", "outcome", "seed", "difference"])


def _differing(fields: dict[str, dict[str, Any]], losses: tuple[str, str], one: str, other: str) -> list[str]:
    """The settings in which two arms differ; those of a loss that only one of them has come with `loss_type`."""
    shared = losses[0] if losses[0] == losses[1] else None
    return [
        name
        for name, values in fields.items()
        if values.get(one) != values.get(other)
        and (shared is not None or not name.startswith(tuple(_prefixes(losses))))
    ]


def _prefixes(losses: tuple[str, str]) -> list[str]:
    return [f"{loss}_" for loss in losses]


def _budget(curves: pd.DataFrame, arms: tuple[str, str]) -> float:
    of_arms = curves[curves["arm"].isin(arms)]
    return float(of_arms.groupby("run", observed=True)["generated_tokens"].max().min())


def _scores(table: pd.DataFrame, curves: pd.DataFrame, arm: str, outcome: str, budget: float) -> pd.Series:
    """An arm's scores by seed."""
    if outcome == "auc":
        return table[table["arm"] == arm].set_index("seed")["auc"].sort_index()
    of_arm = curves[curves["arm"] == arm]
    return pd.Series(
        {
            seed: float(np.interp(budget, rows["generated_tokens"], rows["evaluation_accuracy"]))
            for seed, rows in of_arm.groupby("seed")
        },
        dtype=float,
    )


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
