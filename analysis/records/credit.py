"""What `harness microscope` wrote about a study's runs: gradients beside the true one, weights beside true credit."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import RecordsError
from analysis.records.run_files import read_json
from analysis.records.study import Study

FOLDER, SETTINGS = "microscope", "microscope.json"
UPDATE = ["run", "step", "update"]
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
    """A loss, a placebo, or what could be had; `like`: the candidate that it changes."""

    kind: str
    label: str
    like: str | None


@dataclass(frozen=True)
class Microscope:
    """All runs of the study that were looked at in full.

    gradients: a row per run, step, update and candidate: cosine to the mean of two estimates of the true gradient;
        along: expected gain in accuracy per unit of a step's length; ceiling: cosine of the two estimates.
    segments: a row per run, step, update, response and segment; docs/run_folder.md names the columns.
    """

    candidates: dict[str, Candidate]
    plan: dict[str, Any]
    gradients: pd.DataFrame
    segments: pd.DataFrame

    @property
    def runs(self) -> list[str]:
        return list(dict.fromkeys(self.gradients["run"]))

    def cosines(self, unit: str) -> pd.DataFrame:
        """Mean cosine to the true gradient, a row per run (or step) and a column per candidate.

        A gradient of 0 has no direction and is left out.
        """
        table = self.gradients.pivot_table(index=unit, columns="candidate", values="cosine", aggfunc="mean")
        return table[[name for name in self.candidates if name in table]]

    def parts(self) -> pd.DataFrame:
        """The outcomes `credit/...` of each run: differences of cosines, as PARTS defines them."""
        cosines = self.cosines("run")
        known = {key: pair for key, (_, *pair) in PARTS.items() if set(pair) <= set(cosines)}
        return pd.DataFrame({f"credit/{key}": cosines[one] - cosines[other] for key, (one, other) in known.items()})


def read_microscope(study: Study) -> Microscope | None:
    """None where no run was looked at in full. Raises RecordsError where runs were looked at in different ways."""
    described = {
        run: read_json(folder / FOLDER / SETTINGS)
        for run, folder in study.folders.items()
        if (folder / FOLDER / SETTINGS).is_file()
    }
    whole = {run: one for run, one in described.items() if all(path.is_file() for path in _files(study, run, one))}
    if not whole:
        return None
    first, *others = whole
    for run in others:
        if any(whole[run][name] != whole[first][name] for name in ("plan", "candidates")):
            raise RecordsError(
                f"expected one plan and one list of candidates in all microscopes, got others in {first} and {run}: "
                "look at one of them again"
            )
    gradients = pd.concat([_gradients(study.folders[run] / FOLDER, run, whole[run]) for run in whole])
    segments = pd.concat([_segments(study.folders[run] / FOLDER, run, whole[run]) for run in whole])
    names = {
        name: Candidate(one["kind"], one["label"], one["like"]) for name, one in whole[first]["candidates"].items()
    }
    return Microscope(names, whole[first]["plan"], gradients.reset_index(drop=True), segments.reset_index(drop=True))


def _files(study: Study, run: str, described: dict[str, Any]) -> Iterator[Path]:
    for step in described["plan"]["steps"]:
        yield study.folders[run] / FOLDER / f"step_{step:06d}.json"
        yield study.folders[run] / FOLDER / f"tokens_{step:06d}.parquet"


def _gradients(folder: Path, run: str, described: dict[str, Any]) -> pd.DataFrame:
    lines = [
        line for step in described["plan"]["steps"] for line in read_json(folder / f"step_{step:06d}.json")["lines"]
    ]
    rows = pd.DataFrame(lines)
    first, second, product = (rows[name] for name in ("first_norm", "second_norm", "product"))
    along = (rows["along_first"] + rows["along_second"]) / 2 / rows["norm"].where(rows["norm"] > 0)
    mean_norm = (first**2 + second**2 + 2 * product).clip(lower=0) ** 0.5 / 2
    return pd.DataFrame(
        {
            "run": run,
            **{name: rows[name] for name in ("step", "update", "candidate", "norm", "accuracy")},
            "along": along,
            "cosine": along / mean_norm.where(mean_norm > 0),
            "ceiling": product / (first * second).where(first * second > 0),
        }
    )


def _segments(folder: Path, run: str, described: dict[str, Any]) -> pd.DataFrame:
    tables = [pq.read_table(folder / f"tokens_{step:06d}.parquet") for step in described["plan"]["steps"]]
    joined: pd.DataFrame = pa.concat_tables(tables).to_pandas().assign(run=run)
    return joined
