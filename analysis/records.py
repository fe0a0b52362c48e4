"""Run folders -> tidy tables. The only file that reads them; `docs/run_folder.md` is all that it relies on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims import Claims, claims_of
from analysis.errors import RecordsError
from analysis.run_files import read_evals, read_json, read_metrics, read_status

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


def read(paths: Sequence[Path]) -> Study:
    """One study folder, or any number of run folders."""
    if len(paths) == 1 and not (paths[0] / "config.json").exists():
        return read_study(paths[0])
    return read_runs(paths)


def read_study(folder: Path) -> Study:
    """A study folder: the arms of study.json, and every run under runs/ or planned and missing there."""
    if not (folder / "study.json").is_file():
        raise RecordsError(f"expected a study folder with study.json, got {folder}: give the folder `sweeps` printed")
    description = read_json(folder / "study.json", versioned=True)
    arms = _arms(description, folder / "study.json")
    found = sorted((path for path in (folder / "runs").glob("*") if path.is_dir()), key=_in_order)
    planned = {f"{arm.name}-seed{seed}": (arm.name, seed) for arm in arms for seed in arm.seeds}
    rows = [_run_row(path, planned.get(path.name)) for path in found]
    present = {path.name for path in found}
    rows += [_missing_row(run, *key) for run, key in planned.items() if run not in present]
    claims = claims_of(folder, description)
    return _study((folder.resolve().name, arms, description, claims), rows, {path.name: path for path in found})


def read_runs(folders: Sequence[Path]) -> Study:
    """Loose run folders. Arm and seed come from a name like `fipo-seed3`, else from the name and the config's seed."""
    paths = {path.name: path for path in folders}
    if len(paths) < len(folders):
        raise RecordsError(
            "two of the run folders have the same name: their figures could not be told apart; rename one"
        )
    keys = {name: _loose_key(path) for name, path in paths.items()}
    rows = [_run_row(path, keys[name]) for name, path in paths.items()]
    arms = tuple(_loose_arm(name, paths, keys) for name in dict.fromkeys(arm for arm, _ in keys.values()))
    return _study(("runs", arms, {}, None), rows, paths)


def _study(
    head: tuple[str, tuple[Arm, ...], dict[str, Any], Claims | None],
    rows: list[dict[str, Any]],
    paths: dict[str, Path],
) -> Study:
    counting = [row for row in rows if row["state"] in COUNTING]
    if not counting:
        states = ", ".join(f"{row['run']} {row['state']}" for row in rows[:5]) or "no run folder"
        raise RecordsError(
            f"expected at least one finished run in {head[0]}, got {states}: run or resume the study first"
        )
    name, arms, description, claims = head
    folders = {row["run"]: paths[row["run"]] for row in counting}
    metrics = [_labelled(read_metrics(folders[row["run"]]), row) for row in counting]
    evals = [_labelled(read_evals(folders[row["run"]]), row) for row in counting]
    environments = [_environment(path) for path in folders.values()]
    return Study(
        name=name,
        arms=arms,
        runs=pd.DataFrame(rows),
        metrics=pd.concat(metrics, ignore_index=True),
        evals=pd.concat(evals, ignore_index=True),
        environments=pd.DataFrame(environments),
        description=description,
        folders=folders,
        configs={run: read_json(path / "config.json", versioned=True)["config"] for run, path in folders.items()},
        claims=claims,
    )


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


def _run_row(path: Path, key: tuple[str, int] | None) -> dict[str, Any]:
    """A run's state; a folder that the study did not plan is listed and never compared."""
    arm, seed = key or _in_order(path)
    row = {"run": path.name, "arm": arm, "seed": seed} | read_status(path)
    return row if key else row | {"state": "not planned", "reason": f"study.json has no such run; it is {row['state']}"}


def _missing_row(run: str, arm: str, seed: int) -> dict[str, Any]:
    return {"run": run, "arm": arm, "seed": seed, "state": "not started", "reason": "no folder", "steps_done": 0}


def _labelled(table: pd.DataFrame, row: dict[str, Any]) -> pd.DataFrame:
    return table.assign(run=row["run"], arm=row["arm"], seed=row["seed"])


def _environment(path: Path) -> dict[str, Any]:
    environment = read_json(path / "environment.json")
    return {"run": path.name} | {field: environment.get(field) for field in ENVIRONMENT_FIELDS}


def _loose_key(path: Path) -> tuple[str, int]:
    if match := RUN_NAME.fullmatch(path.name):
        return match["arm"], int(match["seed"])
    return path.name, int(_setting(path, "seed") or 0)


def _loose_arm(name: str, paths: dict[str, Path], keys: dict[str, tuple[str, int]]) -> Arm:
    runs = [run for run, (arm, _) in keys.items() if arm == name]
    control, loss_type = (_setting(paths[runs[0]], key) for key in ("control", "loss_type"))
    return Arm(name, str(loss_type or name), _control(control), tuple(keys[run][1] for run in runs))


def _setting(path: Path, key: str) -> Any:
    """A setting by its name in whichever section of the config it stands."""
    sections = read_json(path / "config.json", versioned=True).get("config", {})
    found = [section[key] for section in sections.values() if isinstance(section, dict) and key in section]
    return found[0] if found else None
