"""Run folders -> tidy tables. The only file that reads them; `docs/run_folder.md` is all that it relies on."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import RecordsError
from analysis.records.claims import Claims, claims_of
from analysis.records.run_files import read_evals, read_json, read_metrics, read_status, suites_of

READERS = 4
FINISHED, DIVERGED = "finished", "diverged"
COUNTING = (FINISHED, DIVERGED)
RUN_NAME = re.compile(r"(?P<arm>.+)-seed(?P<seed>\d+)")
ENVIRONMENT_FIELDS = (
    "commit",
    "dirty_diff_sha256",
    "python",
    "packages",
    "platform",
    "cpu",
    "cpu_capability",
    "threads",
    "model_sha256",
    "eval_prompts_sha256",
    "started_at",
)

__all__ = ["Arm", "Study", "read", "read_runs", "read_study"]


@dataclass(frozen=True)
class Arm:
    """A named config of a study; `control` is None for an arm that is compared and not planted."""

    name: str
    loss_type: str
    control: str | None
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Study:
    """What was planned, what became of it, and the records of the runs that count as tidy tables.

    Runs count that finished, and those that diverged: to leave them out would flatter their arm.
    runs: a row per run, started or only planned: run, arm, seed, state, reason, steps_done.
    metrics: a row per run that counts and step: run, arm, seed, and the keys of metrics.jsonl.
    evals: a row per held-out answer: run, arm, seed, step, prompt_id, sample, correct, response_tokens, truncated.
    environments: a row per run that counts: run and the fields of environment.json.
    description: study.json; empty where loose runs were read.
    folders, configs: of the runs that count, where they lie and their settings by section.
    claims: what the study was to decide; None where no claims were fixed before its runs.
    suites: the prompt ids of each benchmark, by run; of runs whose task has none, none.
    """

    name: str
    arms: tuple[Arm, ...]
    runs: pd.DataFrame
    metrics: pd.DataFrame
    evals: pd.DataFrame
    environments: pd.DataFrame
    description: dict[str, Any]
    folders: dict[str, Path]
    configs: dict[str, dict[str, Any]]
    claims: Claims | None
    suites: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)

    @property
    def compared_arms(self) -> list[Arm]:
        """The arms that a claim may be made about: those that are no planted control and have a run that counts."""
        return [arm for arm in self.arms_with_runs if arm.control is None]

    @property
    def arms_with_runs(self) -> list[Arm]:
        """The arms with at least one run that counts, in the study's order."""
        counting = set(self.runs.loc[self.runs["state"].isin(COUNTING), "arm"])
        return [arm for arm in self.arms if arm.name in counting]

    @property
    def diverged(self) -> list[str]:
        """The runs that ended because a number was no longer finite."""
        return [str(run) for run in self.runs.loc[self.runs["state"] == DIVERGED, "run"]]

    def control_arm(self, control: str) -> Arm | None:
        """The arm with this planted control, if it has a run that counts."""
        return next((arm for arm in self.arms_with_runs if arm.control == control), None)


@dataclass(frozen=True)
class Head:
    """What a study is, beside its runs."""

    name: str
    arms: tuple[Arm, ...]
    description: dict[str, Any]
    claims: Claims | None


@dataclass(frozen=True)
class Part:
    """The records of one run."""

    run: str
    metrics: pd.DataFrame
    evals: pd.DataFrame
    environment: dict[str, Any]
    config: dict[str, Any]
    suites: dict[str, tuple[str, ...]]


def read(paths: Sequence[Path], skip_bad: bool = False) -> Study:
    """One study folder, or any number of run folders.

    skip_bad: leave out runs that cannot be read, with the reason in `runs`, instead of raising RecordsError.
    """
    if len(paths) == 1 and not (paths[0] / "config.json").exists():
        return read_study(paths[0], skip_bad)
    return read_runs(paths, skip_bad)


def read_study(folder: Path, skip_bad: bool = False) -> Study:
    """A study folder: the arms of study.json, and every run under runs/ or planned and missing there."""
    if not (folder / "study.json").is_file():
        raise RecordsError(f"expected a study folder with study.json, got {folder}: give the folder `sweeps` printed")
    description = read_json(folder / "study.json", versioned=True)
    arms = _arms(description, folder / "study.json")
    found = sorted((path for path in (folder / "runs").glob("*") if path.is_dir()), key=_in_order)
    planned = {f"{arm.name}-seed{seed}": (arm.name, seed) for arm in arms for seed in arm.seeds}
    rows = [_run_row(path, planned.get(path.name), skip_bad) for path in found]
    present = {path.name for path in found}
    rows += [_missing_row(run, *key) for run, key in planned.items() if run not in present]
    head = Head(folder.resolve().name, arms, description, claims_of(folder, description))
    return _study(head, rows, {path.name: path for path in found}, skip_bad)


def read_runs(folders: Sequence[Path], skip_bad: bool = False) -> Study:
    """Loose run folders. Arm and seed come from a name like `fipo-seed3`, else from the name and the config's seed."""
    paths = {path.resolve().name: path for path in folders}
    if len(paths) < len(folders):
        raise RecordsError(
            "two of the run folders have the same name: their figures could not be told apart; rename one"
        )
    rows, arms = [], dict[str, Arm]()
    for name, path in paths.items():
        try:
            arm = _loose_arm(path)
            key = (arm.name, arm.seeds[0])
            arms[arm.name] = replace(arm, seeds=(*(arms[arm.name].seeds if arm.name in arms else ()), *arm.seeds))
        except RecordsError as error:
            if not skip_bad:
                raise
            key, reason = _in_order(Path(name)), str(error)
            rows.append({"run": name, "arm": key[0], "seed": key[1]} | _unreadable(reason))
            continue
        rows.append(_run_row(path, key, skip_bad))
    return _study(Head("runs", tuple(arms.values()), {}, None), rows, paths, skip_bad)


def _study(head: Head, rows: list[dict[str, Any]], paths: dict[str, Path], skip_bad: bool) -> Study:
    counting = [row for row in rows if row["state"] in COUNTING]
    parts = []
    with ThreadPoolExecutor(READERS) as readers:  # parsing happens outside of Python's lock
        for row, part in zip(
            counting, readers.map(_part_or_fault, counting, [paths[row["run"]] for row in counting]), strict=True
        ):
            if isinstance(part, Part):
                parts.append(part)
            elif skip_bad:
                row.update(_unreadable(str(part)))
            else:
                raise part
    if not parts:
        states = ", ".join(f"{row['run']} {row['state']}" for row in rows[:5]) or "no run folder"
        raise RecordsError(
            f"expected at least one finished run in {head.name}, got {states}: run or resume the study first"
        )
    return Study(
        name=head.name,
        arms=head.arms,
        runs=pd.DataFrame(rows),
        metrics=_joined([part.metrics for part in parts]),
        evals=_joined([part.evals for part in parts]),
        environments=pd.DataFrame([part.environment for part in parts]),
        description=head.description,
        folders={part.run: paths[part.run] for part in parts},
        configs={part.run: part.config for part in parts},
        claims=head.claims,
        suites={part.run: part.suites for part in parts},
    )


def _part_or_fault(row: dict[str, Any], path: Path) -> Part | RecordsError:
    try:
        return _part(row, path)
    except RecordsError as error:
        return error


def _part(row: dict[str, Any], path: Path) -> Part:
    """All records of one run."""
    config = read_json(path / "config.json", versioned=True).get("config")
    if not isinstance(config, dict) or not all(isinstance(section, dict) for section in config.values()):
        raise RecordsError(f"expected sections of settings in {path / 'config.json'}, got none: restore the file")
    metrics = read_metrics(path)
    if metrics.empty and row["state"] == FINISHED:
        raise RecordsError(f"expected lines in {path / 'metrics.jsonl'} of a finished run, got none: restore it")
    environment = read_json(path / "environment.json")
    kept = {field: environment.get(field) for field in ENVIRONMENT_FIELDS}
    name, evals = str(row["run"]), _labelled(read_evals(path), row)
    suites = suites_of(environment, path / "environment.json")
    return Part(name, _labelled(metrics, row), evals, {"run": name} | kept, config, suites)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def _unreadable(reason: str) -> dict[str, Any]:
    return {"state": "unreadable", "reason": reason, "steps_done": 0}


def _arms(description: dict[str, Any], path: Path) -> tuple[Arm, ...]:
    try:
        return tuple(
            Arm(arm["name"], arm["loss_type"], _control(arm.get("control")), tuple(arm["seeds"]))
            for arm in description["arms"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordsError(
            f"expected arms with name, loss_type and seeds in {path}, got no {error}: is it complete?"
        ) from error


def _control(value: str | None) -> str | None:
    return None if value in (None, "", "none") else value


def _in_order(path: Path) -> tuple[str, int]:
    match = RUN_NAME.fullmatch(path.name)
    return (match["arm"], int(match["seed"])) if match else (path.name, -1)


def _run_row(path: Path, key: tuple[str, int] | None, skip_bad: bool) -> dict[str, Any]:
    """A run's state; a folder that the study did not plan is listed and never compared."""
    arm, seed = key or _in_order(path)
    row: dict[str, Any] = {"run": path.resolve().name, "arm": arm, "seed": seed}
    try:
        row |= read_status(path)
    except RecordsError as error:
        if not skip_bad:
            raise
        row |= _unreadable(str(error))
    return row if key else row | {"state": "not planned", "reason": f"study.json has no such run; it is {row['state']}"}


def _missing_row(run: str, arm: str, seed: int) -> dict[str, Any]:
    return {"run": run, "arm": arm, "seed": seed, "state": "not started", "reason": "no folder", "steps_done": 0}


def _labelled(table: pd.DataFrame, row: dict[str, Any]) -> pd.DataFrame:
    return table.assign(run=row["run"], arm=row["arm"], seed=row["seed"])


def _loose_arm(path: Path) -> Arm:
    """The arm that a loose run belongs to, with the run's seed alone."""
    config = read_json(path / "config.json", versioned=True).get("config")
    sections = [one for one in config.values() if isinstance(one, dict)] if isinstance(config, dict) else []
    settings = {key: value for section in sections for key, value in section.items()}
    name = path.resolve().name
    match = RUN_NAME.fullmatch(name)
    arm, seed = (match["arm"], int(match["seed"])) if match else (name, int(settings.get("seed") or 0))
    return Arm(arm, str(settings.get("loss_type") or arm), _control(settings.get("control")), (seed,))
