"""What a search found: a row per trial, as trials.parquet and best/ (schema: docs/run_folder.md) and in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from optuna.trial import FrozenTrial, TrialState

from harness import flatten, in_words, tree_of, write_json, write_table
from sweeps.search.options import Search
from sweeps.search.spaces import Parameter
from sweeps.search.study import LossStudy, is_lost
from sweeps.search.trials import ACTED

Row = dict[str, Any]
ENDED = ("finished", "pruned", "infeasible", "failed")  # states of a trial that is over
CONSTRAINTS = ("response_tokens", "truncated_share", "collapse")
FACTS = {
    "seeds": pa.list_(pa.int64()),
    "values": pa.list_(pa.float64()),
    "start_accuracy": pa.float64(),
    "response_tokens": pa.float64(),
    "truncated_share": pa.float64(),
    "generated_tokens": pa.int64(),
    "seconds": pa.float64(),
}
PER_RUN = ("output_dir", "seed", "eval_split")


def trial_rows(search: Search, studies: Mapping[str, LossStudy]) -> list[Row]:
    """A row per trial of every loss."""
    rows = []
    for loss, study in studies.items():
        found = study.counting_all(search.trials)
        own = [row_of(search, loss, index, trial) for index, trial in enumerate(found)]
        times = [(trial.user_attrs["ended"], index) for index, trial in enumerate(found) if trial and has_ended(trial)]
        for place, (_, index) in enumerate(sorted(times)):
            own[index]["ended"] = place
        rows += own
    return rows


def has_ended(trial: FrozenTrial) -> bool:
    """Whether the trial has ended and counts."""
    return trial.state.is_finished() and "state" in trial.user_attrs and not is_lost(trial)


def row_of(search: Search, loss: str, index: int, trial: FrozenTrial | None) -> Row:
    """A trial's row. One that was lost with its controller waits to be made anew.

    `settings`, what a run of it is given, are no column of the table.
    """
    row: Row = {"loss": loss, "trial": index, "state": "waiting", "attempts": 0}
    if trial is None:
        return row
    attributes, facts = trial.user_attrs, trial.user_attrs.get("facts", {})
    if trial.state == TrialState.RUNNING:
        row["state"] = "running"
    if has_ended(trial):
        row["state"] = attributes["state"]
        row["feasible"] = trial.state == TrialState.COMPLETE and max(trial.constraints.values(), default=0) <= 0
    finished = row["state"] == "finished"
    known = trial.system_attrs.get("fixed_params", {}) | trial.params
    searched = search.spaces[loss].searched
    return row | {
        "settings": search.spaces[loss].fixed | trial.params,
        "reason": attributes.get("reason"),
        "value": trial.value if finished else None,
        **{name: facts.get(name) for name in FACTS},
        **{f"param.{name}": shown(one, known[name]) for name, one in searched.items() if name in known},
        **{f"constraint.{name}": trial.constraints.get(name) if finished else None for name in CONSTRAINTS},
        **{f"acted.{name}": share for name, share in facts.get("acted", {}).items()},
        "attempts": attributes.get("deaths", 0),
    }


def is_number(one: Parameter) -> bool:
    """Whether all its values are numbers."""
    return one.kind != "choice" or all(type(value) in (int, float) for value in one.values)


def shown(one: Parameter, value: Any) -> float | str:
    """A parameter's value as the table holds it."""
    if is_number(one):
        return float(value)
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def write_trials(search: Search, rows: Sequence[Row]) -> None:
    """trials.parquet, with the columns of every loss's parameters in their own order."""
    parameters = {name: one for space in search.spaces.values() for name, one in space.searched.items()}
    text, number, count = pa.string(), pa.float64(), pa.int64()
    columns = {
        **{"loss": text, "trial": count, "state": text, "reason": text, "value": number, "feasible": pa.bool_()},
        **{name: FACTS[name] for name in ("seeds", "values")},
        **{f"param.{name}": number if is_number(one) else text for name, one in parameters.items()},
        **{f"constraint.{name}": number for name in CONSTRAINTS},
        **{name: kind for name, kind in FACTS.items() if name not in ("seeds", "values")},
        **{f"acted.{name}": number for name in parameters if name in ACTED},
        **{"attempts": count, "ended": count},
    }
    write_table(search.study / "trials.parquet", rows, pa.schema(columns))


def best_rows(rows: Sequence[Row]) -> dict[str, Row]:
    """The best feasible trial of each loss that has one; of equals the first."""
    best: dict[str, Row] = {}
    for row in rows:
        if row.get("feasible") and (row["loss"] not in best or row["value"] > best[row["loss"]]["value"]):
            best[row["loss"]] = row
    return best


def write_best(search: Search, rows: Sequence[Row]) -> None:
    """The best settings of each loss as a preset: all but what belongs to a run."""
    folder = search.study / "best"
    folder.mkdir(exist_ok=True)
    for loss, row in best_rows(rows).items():
        settings = flatten(tree_of(search.config(loss, row["settings"], search.tuning_seeds[0])))
        write_json(folder / f"{loss}.json", {name: value for name, value in settings.items() if name not in PER_RUN})


def time_left(rows: Sequence[Row], at_once: int) -> str:
    """How much is left, from what the ended trials took; `at_once`: how many runs are under way."""
    left = sum(row["state"] not in ENDED for row in rows)
    if not left:
        return f"all {len(rows)} trials have ended"
    took = [row["seconds"] for row in rows if row.get("seconds")]
    about = f", about {in_words(left * sum(took) / len(took) / at_once)}" if took else ""
    return f"{left} of {len(rows)} trials left{about}"


def line_of(row: Row) -> str:
    """What became of a trial that has ended."""
    name = f"{row['loss']} trial {row['trial']}"
    if row["state"] != "finished":
        return f"{name}: {row['state']}: {row['reason']}; {values_line(row)}"
    seeds = " ".join(f"{value:.3f}" for value in row["values"])
    beyond = "" if row["feasible"] else " (beyond a limit)"
    return f"{name}: accuracy {row['value']:.3f} [{seeds}]{beyond}, {values_line(row)}"


def values_line(row: Row) -> str:
    """The searched settings of a trial."""
    values = {name.removeprefix("param."): value for name, value in row.items() if name.startswith("param.")}
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
