"""Synthetic search folders after docs/run_folder.md."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from tests.analysis.folders import environment, write_json

Parameters = dict[str, Any]
SPACE = {
    "lr": {"kind": "log", "low": 5e-5, "high": 2e-3},
    "fipo_clip_range": {"kind": "log", "low": 0.05, "high": 0.8},
    "fipo_safety_threshold": {"kind": "log", "low": 1.05, "high": 10.0},
    "fipo_decay_rate": {"kind": "log", "low": 2.0, "high": 512.0},
}
SPACES = {
    "grpo": {"lr": SPACE["lr"], "epsilon": {"kind": "step", "low": 0.1, "high": 0.3, "step": 0.05}},
    "dapo": {"lr": SPACE["lr"], "epsilon_high": {"kind": "step", "low": 0.2, "high": 0.4, "step": 0.04}},
    "fipo": SPACE,
}


@dataclass(frozen=True)
class SearchTruth:
    """A search's space and size; `ends` are the states of trials that do not finish, by loss and trial."""

    losses: tuple[str, ...] = ("fipo",)
    spaces: dict[str, dict[str, Any]] = field(default_factory=lambda: SPACES)
    trials: int = 12
    seeds: int = 2
    ends: dict[tuple[str, int], tuple[str, str | None]] = field(default_factory=dict)


def write_search(folder: Path, truth: SearchTruth) -> Path:
    """A search's folder with every trial ended but for those that `ends` says otherwise."""
    spaces = {loss: truth.spaces[loss] for loss in truth.losses}
    write_json(folder / "study.json", description(folder.name, truth, spaces))
    rows = [row for loss in truth.losses for row in loss_rows(loss, truth, spaces[loss])]
    as_written(pd.DataFrame(rows)).to_parquet(folder / "trials.parquet")
    for row in rows:
        for seed in row["seeds"] or []:
            run = folder / "runs" / f"{row['loss']}-trial{row['trial']:04d}-seed{seed}"
            write_json(run / "environment.json", environment())
    for loss in truth.losses:
        write_json(folder / "best" / f"{loss}.json", {"schema_version": 1})
    return folder


def as_written(table: pd.DataFrame) -> pd.DataFrame:
    """Parameters as the contract has them: float64 where all values are numbers, else words."""
    for name in [name for name in table if str(name).startswith("param.")]:
        given = table[name].dropna()
        if not all(type(value) in (int, float) for value in given):
            table[name] = table[name].map(lambda value: value if value is None else str(value).lower())
    return table


def description(name: str, truth: SearchTruth, spaces: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "kind": "search",
        "name": name,
        "preset": "demo",
        "losses": list(truth.losses),
        "space": "default",
        "spaces": spaces,
        "sampler": {"name": "tpe"},
        "trials": truth.trials,
        "seeds": list(range(100, 100 + truth.seeds)),
    }


def loss_rows(loss: str, truth: SearchTruth, space: dict[str, Any]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(crc32(loss.encode()))
    rows = []
    for trial in range(truth.trials):
        state, reason = truth.ends.get((loss, trial), ("finished", None))
        values = [float(value) for value in rng.uniform(0.6, 0.9, truth.seeds)]
        row = trial_row(loss, trial, (state, reason), values)
        row |= {f"param.{name}": None for of_loss in SPACES.values() for name in of_loss}
        rows.append(row | {f"param.{name}": value for name, value in drawn(space, trial, rng).items()})
    return rows


def trial_row(loss: str, trial: int, end: tuple[str, str | None], values: list[float]) -> dict[str, Any]:
    state, reason = end
    finished = state in ("finished", "over")
    over = state not in ("running", "waiting")
    return {
        "loss": loss,
        "trial": trial,
        "state": "finished" if finished else state,
        "reason": None if finished else reason,
        "value": float(np.mean(values)) if finished else None,
        "feasible": state == "finished" if over else None,
        "seeds": list(range(100, 100 + len(values))) if finished else None,
        "values": values if finished else None,
    }


def drawn(space: dict[str, Any], trial: int, rng: np.random.Generator) -> Parameters:
    """One setting: log and step at random, choices in turn."""
    given: Parameters = {}
    for name, one in space.items():
        if one["kind"] == "choice":
            given[name] = one["values"][trial % len(one["values"])]
        elif one["kind"] == "log":
            given[name] = float(np.exp(rng.uniform(np.log(one["low"]), np.log(one["high"]))))
        elif one["kind"] == "step":
            count = round((one["high"] - one["low"]) / one["step"]) + 1
            given[name] = round(one["low"] + one["step"] * float(rng.integers(count)), 12)
    return given
