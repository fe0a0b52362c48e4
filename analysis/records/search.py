"""A search's folder -> its description and a row per trial; the only file that reads them.

Left out on purpose: Optuna's own storage. What it holds and analysis needs is in trials.parquet, readable without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import RecordsError
from analysis.records.run_files import read_json

PARAMETER = "param."
COLUMNS = ("loss", "trial", "state", "reason", "value", "feasible", "seeds", "values")
ENDED = ("feasible", "over a limit", "infeasible", "failed", "pruned")
FIELDS = {"losses": list, "spaces": dict, "seeds": list, "sampler": dict}


@dataclass(frozen=True)
class Search:
    """What a search was to do, and what became of its trials so far.

    trials: a row per trial in the order of losses and numbers, with the columns of trials.parquet. Its `outcome` is
    `feasible`, `over a limit` (it has a value and violates a constraint), or the state of a trial without a value.
    environments: a row per run folder that has one: run, commit, dirty_diff_sha256.
    """

    folder: Path
    description: dict[str, Any]
    trials: pd.DataFrame
    environments: pd.DataFrame

    @property
    def name(self) -> str:
        """The search's name, or its folder's."""
        return str(self.description.get("name") or self.folder.resolve().name)

    @property
    def losses(self) -> list[str]:
        """The losses that were searched, in the order that the search names them."""
        return [str(loss) for loss in self.description["losses"]]

    def of(self, loss: str) -> pd.DataFrame:
        """The trials of one loss."""
        return self.trials[self.trials["loss"] == loss]

    def searched(self, loss: str) -> dict[str, dict[str, Any]]:
        """The parameters of a loss that varied, each with its space; those with one fixed value are left out."""
        spaces = self.description["spaces"].get(loss, {})
        return {
            name: space
            for name, space in spaces.items()
            if space.get("kind") != "fixed" and PARAMETER + name in self.trials
        }

    def label(self, loss: str) -> str:
        """The loss's name as papers write it."""
        return str(self.description.get("labels", {}).get(loss, loss.upper()))


def is_search(folder: Path) -> bool:
    """Whether a folder's study.json is that of a search; a comparison's names no kind."""
    path = folder / "study.json"
    if not path.is_file():
        return False
    kind = read_json(path).get("kind")
    if kind not in (None, "search"):
        raise RecordsError(f"expected kind search or none in {path}, got {kind!r}: use the analysis that knows it")
    return kind == "search"


def read_search(folder: Path) -> Search:
    """A search's folder, finished or still going on, with at least one trial that has a value."""
    path = folder / "study.json"
    description = read_json(path, versioned=True)
    for name, kind in FIELDS.items():
        if not isinstance(description.get(name), kind):
            got = type(description[name]).__name__ if name in description else "none"
            raise RecordsError(f"expected {name} as a {kind.__name__} in {path}, got {got}: restore it")
    table = _trials(folder / "trials.parquet", description["losses"])
    with_value = table["state"].eq("finished") & table["value"].notna()
    if not with_value.any():
        states = ", ".join(f"{n} {state}" for state, n in table["state"].value_counts(sort=False).items())
        raise RecordsError(f"expected a finished trial in {folder}, got {states}: report again when one has ended")
    within = np.where(table["feasible"].eq(True), "feasible", "over a limit")
    table = table.assign(
        outcome=table["state"].where(~with_value, within), place=table["loss"].map(description["losses"].index)
    )
    trials = table.sort_values(["place", "trial"], ignore_index=True).drop(columns="place")
    found = sorted((folder / "runs").glob("*/environment.json"))
    environments = [{"run": path.parent.name, **read_json(path)} for path in found]
    columns = ["run", "commit", "dirty_diff_sha256"]
    return Search(folder, description, trials, pd.DataFrame(environments, columns=columns))


def _trials(path: Path, losses: Sequence[str]) -> pd.DataFrame:
    """trials.parquet; values are not numbers where a trial has none, and its lists of those of its seeds are empty."""
    if not path.exists():
        raise RecordsError(f"expected {path}, got none: it is written when the first trial ends; report again then")
    try:
        table = pd.read_parquet(path)
        if missing := [name for name in COLUMNS if name not in table]:
            raise ValueError(f"no column {missing[0]}")
        for name in ("seeds", "values"):
            table[name] = [[] if np.ndim(cell) == 0 else list(map(float, cell)) for cell in table[name]]
        if unknown := set(table["loss"]) - set(losses):
            raise ValueError(f"trials of {', '.join(sorted(unknown))}, which study.json does not name")
        if not table["seeds"].map(len).equals(table["values"].map(len)):
            raise ValueError("trials without a value per seed")
        return table.astype({"value": float, "trial": int})
    except (ValueError, TypeError, OSError) as error:
        words = (str(error) or type(error).__name__).splitlines()[0]
        raise RecordsError(f"expected trials in {path}, got: {words}: restore it, or let `sweeps` write it") from None


def seed_values(search: Search) -> pd.DataFrame:
    """A row per seed of a trial that has a value: loss, trial, seed, seed_value."""
    rows = search.trials[search.trials["outcome"].isin(("feasible", "over a limit"))]
    long = rows[["loss", "trial", "seeds", "values"]].explode(["seeds", "values"])
    long = long.rename(columns={"seeds": "seed", "values": "seed_value"}).dropna(subset=["seed"])
    return long.astype({"seed": int, "seed_value": float}).reset_index(drop=True)


def word(value: Any) -> str:
    """A parameter's value as its flag takes it: `true`, `none`, `0.0003`."""
    text = str(value).lower()
    try:
        return text if isinstance(value, bool) else f"{float(text):.4g}"
    except ValueError:
        return text
