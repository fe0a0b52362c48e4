"""Cells under our names -> runs: by arm and seed what was trained, what was evaluated, and every answer."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import RecordsError
from analysis.imports.cells import HELD_OUT, NEEDED, TRAINING, UNKNOWN
from analysis.imports.sources import Source

FROM_ONE = ("trl", "swift", "verl")  # whose first training step is 1: the rollouts of the policy after none
ENDS = (
    *NEEDED,
    "optimizer/grad_norm",
    "loss/token_loss",
)  # of which one that ends not finite shows that a run diverged
PEAK = re.compile(r"(?:^|[^a-z])(?:best|peak|max)(?:[^a-z]|$)", re.IGNORECASE)
REWARD = re.compile(r"reward|score", re.IGNORECASE)
SHARE = re.compile(r"acc|correct|exact_match|pass@", re.IGNORECASE)


@dataclass
class Run:
    """One run.

    metrics: a row per 0-based step, under the names of metrics.jsonl. evaluations: a row per number of steps done:
    `accuracy`, and `tokens` and `n` where known. answers: rows of evals/. last_step: steps done at the last thing that
    is known of it. fate: why it counts as diverged, else empty. about: what environment.json keeps of the import.
    """

    arm: str
    seed: int
    metrics: pd.DataFrame
    evaluations: pd.DataFrame
    answers: pd.DataFrame
    last_step: int
    fate: str
    settings: dict[str, Any]
    about: dict[str, Any]


def runs_of(source: Source, cells: pd.DataFrame, columns: Mapping[str, str]) -> list[Run]:
    """The runs that the cells are of. Raises RecordsError where several have one arm and seed."""
    each = cells.loc[cells["seed"] != UNKNOWN, ["arm", "seed", "run"]].drop_duplicates()
    if each.duplicated(["arm", "seed"]).any():
        raise RecordsError(f"expected one run per arm and seed in {source.name}, got several: name the seed's column")
    rows, runs = dict(source.rows), []
    for _, own in cells.groupby(["arm", "seed", "run"], sort=False):
        params = {name: value for name, value in rows[own["place"].iloc[0]].items() if name.startswith("params.")}
        last = own["step"].max()
        own = own.assign(step=own["step"].fillna(last if last > 0 else 1).astype(int))
        runs.append(_run(source, own, columns, source.settings | params))
    return runs


def _run(source: Source, cells: pd.DataFrame, columns: Mapping[str, str], settings: dict[str, Any]) -> Run:
    (arm, seed), is_answer = cells[["arm", "seed"]].iloc[0], cells["question"].notna()
    answers, logged = _answers(cells[is_answer]), cells[~is_answer].sort_values("step", kind="stable")
    again = logged[logged.duplicated(["step", "name"])]
    if source.kind == "csv" and (again["step"] == logged["step"].min()).any():  # a resume does not go back to the start
        name, place = again[["name", "place"]].iloc[0]
        raise RecordsError(
            f"expected one {columns[name]} at the first step of {arm}, got a second one in {place}: "
            "name the columns of arm and seed"
        )
    kept = logged.drop_duplicates(["step", "name"], keep="last")
    held_out, finite = kept["name"].isin(HELD_OUT), np.isfinite(kept["value"])
    if source.kind in FROM_ONE and kept.loc[~held_out, "step"].min() > 0:
        kept = kept.assign(step=kept["step"] - ~held_out)
    evaluations = kept[held_out & finite].pivot(index="step", columns="name", values="value")
    last_step = int(max([*(kept["step"] + ~held_out), *answers["step"]]))
    ends = kept.drop_duplicates("name", keep="last")
    lost = ends.loc[ends["name"].isin(ENDS) & ~np.isfinite(ends["value"]), "name"]
    fate = f"{columns[lost.iloc[0]]} is not finite at its last step" if len(lost) else ""
    gaps = [name for name in kept.loc[~finite, "name"].unique() if name not in set(lost)]
    notes = [f"{fate}, so the run counts as diverged, at its last evaluation"] if fate else []
    notes += [f"{columns[name]}: numbers that are not finite are left out" for name in gaps]
    twice = again["name"].unique()
    notes += [f"{columns[name]}: steps logged twice, as after a resume; the later value counts" for name in twice]
    if float(settings.get("max_steps") or 0) > last_step:
        notes.append(
            f"The log ends before max_steps={settings['max_steps']}, why is not known; the run counts as it is"
        )
    used = {name: column for name, column in columns.items() if name in set(cells["name"])}
    notes += [*source.notes, *_doubts(kept[finite], used, arm)]
    return Run(
        arm=arm,
        seed=int(seed),
        metrics=_metrics(kept[~held_out & finite]),
        evaluations=evaluations.dropna(subset="accuracy") if "accuracy" in evaluations else evaluations[:0],
        answers=answers,
        last_step=last_step,
        fate=fate,
        settings=settings,
        about={"format": source.kind, "columns": used, "seed_known": int(seed) != UNKNOWN, "notes": notes},
    )


def _metrics(cells: pd.DataFrame) -> pd.DataFrame:
    """A row a step; mean seconds of a step since the line before become seconds since the start."""
    table = cells.pivot(index="step", columns="name", values="value")
    if "step_seconds" in table:
        seconds = table["step_seconds"].dropna()
        table["step_seconds"] = (seconds * np.diff(seconds.index, prepend=-1)).cumsum()
    return table.rename(columns=TRAINING)


def _answers(cells: pd.DataFrame) -> pd.DataFrame:
    """Rows of evals/; whether an answer was cut off, and its tokens unless there is a column, are not known."""
    right = cells[cells["name"] == "accuracy"]
    if len(other := right[~right["value"].isin([-1, 0, 1])]):
        place, value = other[["place", "value"]].iloc[0]
        raise RecordsError(f"expected 0 or 1 for an answer in {place}, got {value:g}: name another column")
    table = right[["step"]].assign(
        prompt_id=right["question"].map(lambda q: q if len(q) <= 80 else sha256(q.encode()).hexdigest()[:16]),
        correct=right["value"] == 1,
        response_tokens=right["place"].map(cells[cells["name"] == "tokens"].set_index("place")["value"]),
        truncated=None,
        correct_leniently=right["value"] == 1,
    )
    return table.assign(sample=table.groupby(["step", "prompt_id"]).cumcount())


def _doubts(logged: pd.DataFrame, used: Mapping[str, str], arm: str) -> Iterator[str]:
    """Why what stands for accuracy may be none, or better than it is."""
    for name, words in NEEDED.items():
        values, column = logged.loc[logged["name"] == name, "value"], used.get(name, "")
        if values.min() < 0 or values.max() > 1:
            may_be_percent = values.min() >= 0 and values.max() <= 100 and not REWARD.search(column)
            percent = " (in percent? then --percent)" if may_be_percent else ""
            yield f"{column} goes beyond 0 and 1, so it is no share of right answers{percent}; it stands for {words}"
        elif len(values) and REWARD.search(column) and not SHARE.search(column):
            yield f"{column} is a reward, which need not be the share of right answers; it stands for {words}"
    for name in (used.get("accuracy", ""), arm):
        if PEAK.search(name):
            yield f"{name!r} is by its name a best of several: a maximum over looks is biased upwards"
