"""The study folder: what was planned, and which of its runs are there. Its schema is docs/run_folder.md."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import Config, UsageError, config_sha256, tree_of, write_json
from sweeps.arms import Arm, Family
from sweeps.differences import Difference

SCHEMA_VERSION = 1
PRIMARY_OUTCOME = "auc"  # mean training accuracy over the steps; fixed here, before any run


@dataclass(frozen=True)
class PlannedRun:
    """One run of the study."""

    arm: str
    seed: int
    config: Config
    study: Path

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.arm}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """Where the run is recorded."""
        return self.study / "runs" / self.name

    @property
    def config_file(self) -> Path:
        """The settings handed to `harness train`."""
        return self.study / "configs" / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.study / "logs" / f"{self.name}.log"

    def state(self) -> str | None:
        """What its status.json says, or None where there is none."""
        status = read_json(self.folder / "status.json")
        return status["state"] if status else None


def planned_runs(arms: Sequence[Arm], study: Path) -> list[PlannedRun]:
    """Seed by seed, so that every arm has its first results early and an interrupted study is balanced."""
    seeds = sorted({seed for arm in arms for seed in arm.configs})
    return [
        PlannedRun(arm.name, seed, arm.configs[seed], study) for seed in seeds for arm in arms if seed in arm.configs
    ]


def refuse_other_runs(runs: Sequence[PlannedRun]) -> None:
    """Raise UsageError if a run's folder holds a run of other settings."""
    for run in runs:
        recorded = read_json(run.folder / "config.json")
        if recorded and recorded["sha256"] != config_sha256(run.config):
            raise UsageError(
                f"--study: expected a new study or this one, got {str(run.study)!r}, whose run {run.name} has "
                "other settings: choose another --study, or move that study away"
            )


def set_aside(run: PlannedRun) -> None:
    """Move what an interrupted or failed attempt left to superseded/: nothing is overwritten."""
    if not run.folder.exists():
        return
    kept = run.study / "superseded"
    kept.mkdir(exist_ok=True)
    number = 1
    while (kept / f"{run.name}-{number}").exists():
        number += 1
    run.folder.rename(kept / f"{run.name}-{number}")


def write_study(
    study: Path, family: Family, preset: str, arms: Sequence[Arm], differences: Sequence[Difference]
) -> None:
    """study.json and the configs of its runs; arms and seeds that an earlier call planned stay in it."""
    described = {arm.name: describe(arm) for arm in arms}
    earlier = read_json(study / "study.json")
    for old in earlier["arms"] if earlier else []:
        new = described.setdefault(old["name"], old)
        new["seeds"] = sorted({*new["seeds"], *old["seeds"]})
    study.mkdir(parents=True, exist_ok=True)
    (study / "configs").mkdir(exist_ok=True)
    for run in planned_runs(arms, study):
        write_json(run.config_file, tree_of(run.config))
    content = {
        "schema_version": SCHEMA_VERSION,
        "family": family.name,
        "family_description": family.description,
        "preset": preset,
        "primary_outcome": PRIMARY_OUTCOME,
        "arms": list(described.values()),
        "differences": [asdict(difference) for difference in differences],
        "confounds": [difference.field for difference in differences if not difference.allowed],
    }
    write_json(study / "study.json", content)


def describe(arm: Arm) -> dict[str, Any]:
    """An arm as study.json lists it."""
    config = arm.any_config
    return {
        "name": arm.name,
        "loss_type": config.loss.loss_type,
        "control": config.task.control,
        "seeds": sorted(arm.configs),
        "settings": dict(arm.settings),
    }


def read_json(path: Path) -> Any:
    """The file's content, or None where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
