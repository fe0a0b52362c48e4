"""Study and run folders -> one Study of tidy tables; `docs/run_folder.md` is all that it relies on."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.errors import RecordsError
from analysis.records.alike import check_alike
from analysis.records.claims import Claims, claims_of
from analysis.records.design import Arm, Block, Cell, Plan, Role, plan_of, plan_of_arms
from analysis.records.loose import loose_arms
from analysis.records.run_files import MEAN, RunRecords, named_seed, read_json, read_run, read_status

READERS = 4
FINISHED, DIVERGED = "finished", "diverged"
COUNTING = (FINISHED, DIVERGED)

__all__ = ["Arm", "Block", "Cell", "Role", "Study", "read"]


@dataclass(frozen=True)
class Study:
    """What was planned, what became of it, and the records of the runs that count as tidy tables.

    Runs count that finished, and those that diverged: to leave them out would flatter their arm.
    runs: a row per run, started or only planned: run, arm, seed, state, reason, steps_done.
    metrics: a row per run that counts and step: run, arm, seed, and the keys of metrics.jsonl.
    evals: a row per held-out answer: run, arm, seed, step, prompt_id, sample, correct, response_tokens, truncated,
        correct_leniently.
    environments: a row per run that counts: run and the fields of environment.json.
    description: study.json; empty where loose runs were read.
    folders, configs: of the runs that count, where they lie and their settings by section.
    claims: what the study was to decide; None where no claims were fixed before its runs.
    suites: the prompt ids of each benchmark, by run; of runs whose task has none, none.
    blocks, cells: a comparison has one block; in a study of blocks an arm of `arms` and of every table is a cell.
    roles: by the family's name of an arm. warm_starts: seed s starts from warm start s mod `warm_starts`. In a study of
        forks a seed is a fork, and a warm start is a state of a recorded run.
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
    suites: dict[str, dict[str, tuple[str, ...]]]
    blocks: Mapping[str, Block]
    cells: tuple[Cell, ...]
    roles: Mapping[str, Role]
    warm_starts: int = 1

    def role(self, arm: str) -> Role:
        """What an arm is for, by the family's name or a cell's."""
        return self.roles.get(arm) or self.roles.get(self._family_name(arm)) or Role()

    def label(self, arm: str) -> str:
        """The arm's name as a reader meets it."""
        name, space, settings = self._family_name(arm).partition(" ")
        is_loss = any(one.loss_type == name for one in self.arms)  # written as papers write it
        return self.role(arm).label or (name.upper() if is_loss else name) + space + settings

    @property
    def units(self) -> tuple[str, str]:
        """What its pairs are, and what pairs have in common."""
        if "fork" in self.description:
            return "fork", "state"
        return "seed", "starting model" if self.is_imported else "warm start"

    @property
    def is_imported(self) -> bool:
        """Whether `python -m analysis import` wrote its runs, so that what they share is not known."""
        return bool(self.description.get("family") == "imported")

    @property
    def is_comparison(self) -> bool:
        """Whether it has no design of several blocks."""
        return "design" not in self.description

    @property
    def compared_arms(self) -> list[Arm]:
        """The arms that a claim may be made about: those that are no planted control and have a run that counts."""
        return [arm for arm in self.arms_with_runs if not self.role(arm.name).planted]

    @property
    def arms_with_runs(self) -> list[Arm]:
        """The arms with at least one run that counts, in the study's order."""
        counting = set(self.runs.loc[self.runs["state"].isin(COUNTING), "arm"])
        return [arm for arm in self.arms if arm.name in counting]

    def config_of(self, arm: str) -> dict[str, Any]:
        """The settings of an arm by section: those of its first run that counts."""
        return self.configs[next(run for run in self.runs.loc[self.runs["arm"] == arm, "run"] if run in self.configs)]

    @property
    def diverged(self) -> list[str]:
        """The runs that ended because a number was no longer finite."""
        return [str(run) for run in self.runs.loc[self.runs["state"] == DIVERGED, "run"]]

    @property
    def answers(self) -> pd.DataFrame:
        """The rows of `evals` that are answers of known length; without those of imported runs that are means."""
        return self.evals[(self.evals["sample"] > MEAN) & self.evals["response_tokens"].notna()]

    @cached_property
    def evaluated(self) -> pd.DataFrame:
        """`evaluation_curves` of all answers."""
        return evaluation_curves(self.evals)

    @cached_property
    def steps_of(self) -> dict[str, pd.DataFrame]:
        """The rows of `metrics` by run."""
        return {str(run): rows for run, rows in self.metrics.groupby("run", observed=True)}

    @property
    def planned_scores(self) -> int:
        """How many rows its table of outcomes has once every planned run counts."""
        seeds = {arm.name: arm.seeds for arm in self.arms}
        return sum(len(self.seeds_in(cell, seeds[cell.cell])) for cell in self.cells)

    def seeds_in(self, cell: Cell, seeds: Sequence[int]) -> list[int]:
        """Those of a cell's seeds that its block counts: blocks that share a cell may ask for fewer seeds of it."""
        block = self.blocks[cell.block]
        if self.is_comparison:
            return list(seeds)
        return [seed for seed in seeds if block.first_seed <= seed < block.first_seed + block.seeds]

    def block(self, name: str) -> "Study":
        """The same study restricted to one block that varies nothing, its cells named as the family names the arms."""
        if self.is_comparison:
            return self
        block, arms = self.blocks[name], {arm.name: arm for arm in self.arms}
        cells = [cell for cell in self.cells if cell.block == name and cell.cell in arms]
        own = {cell.cell: cell for cell in cells}
        seeds = {cell.cell: set(self.seeds_in(cell, arms[cell.cell].seeds)) for cell in cells}

        def kept(table: pd.DataFrame) -> pd.DataFrame:
            inside = [seed in seeds.get(arm, ()) for arm, seed in zip(table["arm"], table["seed"], strict=True)]
            return table[inside].assign(arm=lambda rows: rows["arm"].map({key: one.arm for key, one in own.items()}))

        runs = kept(self.runs)
        names = set(runs["run"])
        return replace(
            self,
            arms=tuple(replace(arms[c.cell], name=c.arm, seeds=tuple(sorted(seeds[c.cell]))) for c in cells),
            runs=runs.reset_index(drop=True),
            metrics=kept(self.metrics).reset_index(drop=True),
            evals=kept(self.evals).reset_index(drop=True),
            environments=self.environments[self.environments["run"].isin(names)].reset_index(drop=True),
            folders={run: path for run, path in self.folders.items() if run in names},
            configs={run: config for run, config in self.configs.items() if run in names},
            suites={run: suites for run, suites in self.suites.items() if run in names},
            blocks={name: block},
            cells=tuple(replace(cell, cell=cell.arm) for cell in cells),
        )

    def _family_name(self, arm: str) -> str:
        return next((cell.arm for cell in self.cells if cell.cell == arm), arm)


def evaluation_curves(evals: pd.DataFrame) -> pd.DataFrame:
    """A row per run and evaluation: accuracy and response tokens, each prompt counting the same."""
    keys = ["run", "arm", "seed", "step"]
    per_prompt = evals.groupby([*keys, "prompt_id"], sort=False, observed=True)[["correct", "response_tokens"]].mean()
    means = per_prompt.groupby(keys, sort=False, observed=True).mean().reset_index()
    return means.rename(columns={"correct": "accuracy"}).sort_values(["run", "step"], ignore_index=True)


def read(paths: Sequence[Path]) -> Study:
    """One study folder, of a comparison or of blocks, or any number of run folders.

    Raises RecordsError for a damaged file, and where runs that start from the same warm start cannot be compared.
    """
    is_run = len(paths) > 1 or (paths[0] / "config.json").exists()
    study = _read_runs(paths) if is_run else _read_study(paths[0])
    for start in range(study.warm_starts):
        rows = study.runs[(study.runs["seed"] % study.warm_starts == start) & study.runs["run"].isin(study.folders)]
        if own := set(rows["run"]):
            environments = study.environments[study.environments["run"].isin(own)]
            check_alike(environments, {run: config for run, config in study.configs.items() if run in own})
    return study


def _read_study(folder: Path) -> Study:
    """The arms of study.json, and every run under runs/ or planned and missing there."""
    path = folder / "study.json"
    if not path.is_file():
        raise RecordsError(f"expected a study folder with study.json, got {folder}: give the folder `sweeps` printed")
    description = read_json(path, versioned=True)
    plan = plan_of(description, path)
    found = sorted((path for path in (folder / "runs").glob("*") if path.is_dir()), key=lambda p: named_seed(p.name))
    planned = {f"{arm.name}-seed{seed}": (arm.name, seed) for arm in plan.arms for seed in arm.seeds}
    rows = [_run_row(path, planned.get(path.name)) for path in found]
    present = {path.name for path in found}
    missing = {"state": "not started", "reason": "no folder", "steps_done": 0}
    rows += [
        {"run": run, "arm": arm, "seed": seed, **missing} for run, (arm, seed) in planned.items() if run not in present
    ]
    paths = {path.name: path for path in found}
    parts = _records(rows, paths, folder.resolve().name)
    claims = claims_of(folder, description)
    return _study(folder.resolve().name, plan, rows, parts, description=description, claims=claims)


def _read_runs(folders: Sequence[Path]) -> Study:
    """Run folders of no study."""
    paths = {path.resolve().name: path for path in folders}
    if len(paths) < len(folders):
        raise RecordsError("two of the run folders have the same name, so figures could not name them: rename one")
    rows, arms = [], dict[str, Arm]()
    for run, arm in loose_arms(paths).items():
        known = arms[arm.name].seeds if arm.name in arms else ()
        arms[arm.name] = replace(arm, seeds=(*known, *arm.seeds))
        rows.append(_run_row(paths[run], (arm.name, arm.seeds[0])))
    return _study("runs", plan_of_arms(tuple(arms.values()), {}), rows, _records(rows, paths, "runs"))


def _study(name: str, plan: Plan, rows: list[dict[str, Any]], parts: list[RunRecords], **given: Any) -> Study:
    about: dict[str, Any] = {"description": {}, "claims": None} | given
    return Study(
        name=name,
        **vars(plan),
        **about,
        runs=pd.DataFrame(rows),
        metrics=_joined([part.metrics for part in parts]),
        evals=_joined([part.evals for part in parts]),
        environments=pd.DataFrame([part.environment for part in parts]),
        folders={part.run: part.folder for part in parts},
        configs={part.run: part.config for part in parts},
        suites={part.run: part.suites for part in parts},
    )


def _records(rows: list[dict[str, Any]], paths: dict[str, Path], name: str) -> list[RunRecords]:
    """The records of the runs that count."""
    counting = [row for row in rows if row["state"] in COUNTING]
    if not counting:
        states = ", ".join(f"{row['run']} {row['state']}" for row in rows[:5]) or "no run folder"
        raise RecordsError(f"expected at least one finished run in {name}, got {states}: run or resume the study first")
    with ThreadPoolExecutor(READERS) as readers:  # parsing happens outside of Python's lock
        return list(readers.map(lambda row: read_run(paths[row["run"]], row, row["state"] == FINISHED), counting))


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def _run_row(path: Path, key: tuple[str, int] | None) -> dict[str, Any]:
    """A run's state; a folder that the study did not plan is listed and never compared."""
    arm, seed = key or named_seed(path.name)
    row: dict[str, Any] = {"run": path.resolve().name, "arm": arm, "seed": seed, **read_status(path)}
    return row if key else row | {"state": "not planned", "reason": f"study.json has no such run; it is {row['state']}"}
