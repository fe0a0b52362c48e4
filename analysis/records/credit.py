"""What `harness microscope` wrote about a study's runs: gradients beside the true one, weights beside true credit."""

from dataclasses import dataclass
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.records.run_files import read_json
from analysis.records.study import Study

FOLDER, SETTINGS = "microscope", "microscope.json"
NUMBERS = "norm", "cosine", "projection", "halves_cosine", "accuracy"
UPDATE = ["run", "seed", "step", "update"]
RESPONSE = [*UPDATE, "prompt_id", "sample"]
REFERENCE = "dapo"

# What a loss's weights are made of; the candidates' names are those of harness/microscope/candidates.toml.
PARTS = {
    "polarity": ("one mean weight per sign of the advantage", "wide_sign_mean", REFERENCE),
    "response": ("a mean weight per response beyond that", "wide_response_mean", "wide_sign_mean"),
    "placement": ("placement on tokens within responses", "fipo_wide", "wide_shuffled"),
    "whole": ("all of FIPO's weights in [0.5, 1.5]", "fipo_wide", REFERENCE),
    "headroom": ("the true credit's ranks as weights in [0.5, 1.5]", "true_ranks", REFERENCE),
    "blame": ("blame on the first wrong step, beyond the same spread evenly", "blame", "damp"),
    "missed": ("what the true ranks give beyond FIPO's weights", "true_ranks", "fipo_wide"),
}


@dataclass(frozen=True)
class Candidate:
    """A loss, a placebo, or an upper bound from true credit; `like`: the candidate that it changes."""

    kind: str
    label: str
    like: str | None


@dataclass(frozen=True)
class Microscope:
    """The runs of a study that were measured in full, under one plan.

    gradients: a row per run, step, update and candidate: norm; cosine to the mean of two estimates of the true
        gradient; projection: expected gain in accuracy per unit of a step's length; halves_cosine: of both estimates.
    left_out: runs that were measured in part or otherwise. off: the largest difference of repeated log-probabilities.
    """

    candidates: dict[str, Candidate]
    plan: dict[str, Any]
    gradients: pd.DataFrame
    folders: dict[str, Path]
    seeds: dict[str, int]
    left_out: list[str]
    off: float

    @cached_property
    def segments(self) -> pd.DataFrame:
        """A row per run, seed, step, update, response and segment; docs/run_folder.md names the columns."""
        tables = []
        for run, folder in self.folders.items():
            files = [pq.read_table(folder / f"tokens_{step:06d}.parquet") for step in self.plan["steps"]]
            rows: pd.DataFrame = pa.concat_tables([one for one in files if one.num_rows] or files[:1]).to_pandas()
            tables.append(rows.assign(run=run, seed=self.seeds[run]))
        joined: pd.DataFrame = pd.concat(tables, ignore_index=True)
        return joined

    def cosines(self, unit: str) -> pd.DataFrame:
        """Mean cosine to the true gradient, a row per run, seed or step and a column per candidate.

        A gradient of 0 has no direction and is left out.
        """
        table = self.gradients.pivot_table(index=unit, columns="candidate", values="cosine", aggfunc="mean")
        known: pd.DataFrame = table.reindex(columns=list(self.candidates))
        return known

    def parts(self) -> pd.DataFrame:
        """The outcomes `credit/...` of each run: differences of cosines, as PARTS defines them."""
        cosines = self.cosines("run")
        known = {key: pair for key, (_, *pair) in PARTS.items() if set(pair) <= set(cosines)}
        return pd.DataFrame({f"credit/{key}": cosines[one] - cosines[other] for key, (one, other) in known.items()})


def read_microscope(study: Study) -> Microscope | None:
    """None where no run was measured in full. Of several plans, the one that most runs were measured under."""
    described = {
        run: read_json(folder / FOLDER / SETTINGS)
        for run, folder in study.folders.items()
        if (folder / FOLDER / SETTINGS).is_file()
    }
    plans = {run: (one["plan"], one["candidates"]) for run, one in described.items() if _is_whole(study, run, one)}
    if not plans:
        return None
    plan, named = max(plans.values(), key=list(plans.values()).count)
    folders = {run: study.folders[run] / FOLDER for run, its in plans.items() if its == (plan, named)}
    content = [(run, read_json(at / f"step_{step:06d}.json")) for run, at in folders.items() for step in plan["steps"]]
    lines = pd.DataFrame([{"run": run, **line} for run, step in content for line in step["lines"]])
    if lines.empty:
        return None
    names = {name: Candidate(one["kind"], one["label"], one["like"]) for name, one in named.items()}
    seeds = {str(run): int(seed) for run, seed in zip(study.runs["run"], study.runs["seed"], strict=True)}
    gradients = lines.assign(seed=lines["run"].map(seeds)).astype(dict.fromkeys(NUMBERS, float))
    off = float(np.max([nan if step["off"] is None else step["off"] for _, step in content]))
    left_out = [run for run in described if run not in folders]
    return Microscope(names, plan, gradients, folders, seeds, left_out, off)


def _is_whole(study: Study, run: str, described: dict[str, Any]) -> bool:
    names = {f"{kind}_{step:06d}" for step in described["plan"]["steps"] for kind in ("step", "tokens")}
    return names <= {file.stem for file in (study.folders[run] / FOLDER).iterdir()}
