"""A table under our names -> runs: by arm and seed what was trained, what was evaluated, and every answer."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import RecordsError
from analysis.imports.cells import HELD_OUT, NEEDED, TRAINING, UNKNOWN
from analysis.imports.sources import Source

FROM_ONE = ("trl", "swift", "verl")  # whose first training step is 1: the rollouts of the policy after none
ENDS = (*NEEDED, "optimizer/grad_norm", "loss/token_loss")  # one that ends not finite shows that a run diverged
NOT_FINITE = "is not finite at its last step"
PEAK = re.compile(r"(?:^|[^a-z])(?:best|peak|max)(?:[^a-z]|$)", re.IGNORECASE)


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


def runs_of(source: Source, table: pd.DataFrame, columns: Mapping[str, str]) -> list[Run]:
    """The runs that the rows are of. Raises RecordsError where several have one arm and seed."""
    each = table.loc[table["seed"] != UNKNOWN, ["arm", "seed", "run"]].drop_duplicates()
    if each.duplicated(["arm", "seed"]).any():
        raise RecordsError(f"expected one run per arm and seed in {source.name}, got several: name the seed's column")
    rows, runs = dict(source.rows), []
    for _, own in table.groupby(["arm", "seed", "run"], sort=False):
        params = {name: value for name, value in rows.get(own.index[0], {}).items() if name.startswith("params.")}
        last = own["step"].max()
        own = own.assign(step=own["step"].fillna(last if last > 0 else 1).astype(int))
        runs.append(_run(source, own, columns, source.settings | params))
    return runs


def _run(source: Source, own: pd.DataFrame, columns: Mapping[str, str], settings: dict[str, Any]) -> Run:
    arm, seed = str(own["arm"].iloc[0]), int(own["seed"].iloc[0])
    own = own.dropna(axis="columns", how="all").drop(columns=["arm", "seed", "run"])
    is_answer = own["question"].notna() if "question" in own else pd.Series(False, own.index)
    answers, logged = _answers(own[is_answer]), own[~is_answer].drop(columns="question", errors="ignore")
    counts = logged.groupby("step").count()
    if source.kind == "csv" and (counts[:1] > 1).any(axis=None):  # a resume does not go back to the start
        name = str((counts.iloc[0] > 1).idxmax())
        place = logged.index[(logged["step"] == counts.index[0]) & logged[name].notna()][1]
        raise RecordsError(
            f"expected one {columns[name]} at the first step of {arm}, got a second one in {place}: "
            "name the columns of arm and seed"
        )
    known = logged.groupby("step").last()  # the later value of a step counts
    held_out = known.loc[:, known.columns.isin(HELD_OUT)].dropna(how="all")
    trained = known.drop(columns=held_out.columns).dropna(how="all")
    if source.kind in FROM_ONE and trained.index.min() > 0:
        trained.index -= 1
    last_step = int(max([*(trained.index + 1), *held_out.index, *answers["step"]]))
    lost = next((one for one in ENDS if one in known and np.isinf(known[one].dropna().tail(1)).any()), "")
    notes = [*_noticed(known, counts, columns, lost, arm), *source.notes]
    if pd.to_numeric(str(settings.get("max_steps")), errors="coerce") > last_step:
        notes.append(
            f"The log ends before max_steps={settings['max_steps']}, why is not known; the run counts as it is"
        )
    used = {name: column for name, column in columns.items() if name in own and name != "step"}
    evaluations = held_out.replace(inf, nan)
    return Run(
        arm=arm,
        seed=seed,
        metrics=_metrics(trained.replace(inf, nan).dropna(how="all")),
        evaluations=evaluations.dropna(subset="accuracy") if "accuracy" in held_out else held_out[:0],
        answers=answers,
        last_step=last_step,
        fate=f"{columns[lost]} {NOT_FINITE}" if lost else "",
        settings=settings,
        about={"format": source.kind, "columns": used, "seed_known": seed != UNKNOWN, "notes": notes},
    )


def _noticed(
    known: pd.DataFrame, counts: pd.DataFrame, columns: Mapping[str, str], lost: str, arm: str
) -> Iterator[str]:
    """What of the numbers is not taken as it stands; lost: the name of what shows that the run diverged."""
    for name in map(str, known):
        if name == lost:
            yield f"{columns[name]} {NOT_FINITE}, so the run counts as diverged, at its last evaluation"
        elif np.isinf(known[name]).any():
            yield f"{columns[name]}: numbers that are not finite are left out"
        if (counts[name] > 1).any():
            yield f"{columns[name]}: steps logged twice, as after a resume; the later value counts"
    for name in (columns.get("accuracy", ""), arm):
        if PEAK.search(name):
            yield f"{name!r} is by its name a best of several: a maximum over looks is biased upwards"


def _metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Under the names of metrics.jsonl; mean seconds of a step since the line before become seconds since the start."""
    if "step_seconds" in table:
        seconds = table["step_seconds"].dropna()
        table["step_seconds"] = (seconds * np.diff(seconds.index, prepend=-1)).cumsum()
    named = table.rename(columns=TRAINING)
    return named.loc[:, ~named.columns.duplicated()]


def _answers(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of evals/; whether an answer was cut off, and its tokens unless there is a column, are not known."""
    right = rows.reindex(columns=["step", "question", "accuracy", "tokens"]).dropna(subset="accuracy")
    if len(other := right[~right["accuracy"].isin([-1, 0, 1])]):
        value = other["accuracy"].iloc[0]
        raise RecordsError(f"expected 0 or 1 for an answer in {other.index[0]}, got {value:g}: name another column")
    table = pd.DataFrame(
        {
            "step": right["step"],
            "prompt_id": right["question"].map(lambda q: q if len(q) <= 80 else sha256(q.encode()).hexdigest()[:16]),
            "correct": right["accuracy"] == 1,
            "response_tokens": right["tokens"],
            "truncated": None,
            "correct_leniently": right["accuracy"] == 1,
        }
    )
    return table.assign(sample=table.groupby(["step", "prompt_id"]).cumcount())
