"""The study folder: what was planned, and which of its runs are there. Its schema is docs/run_folder.md."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock, Timeout

from harness import (
    Config,
    UsageError,
    config_sha256,
    differences,
    json_object,
    own_code_hashes,
    read_config,
    tree_of,
    write_json,
)
from sweeps.study.arms import PER_RUN, Arm, Family, differences_between

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

    def write_config(self) -> None:
        """Write them."""
        self.config_file.parent.mkdir(exist_ok=True)
        write_json(self.config_file, tree_of(self.config))

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.study / "logs" / f"{self.name}.log"

    @property
    def reason_file(self) -> Path:
        """Where the run's process leaves the code of how it ended."""
        return self.study / "logs" / f"{self.name}.reason"

    def reason_code(self) -> str | None:
        """How the run's latest process says that it ended, or None where it said nothing."""
        return (self.reason_file.read_text(encoding="utf-8").strip() or None) if self.reason_file.is_file() else None

    @property
    def can_be_resumed(self) -> bool:
        """Whether an attempt was stopped or killed. One that failed would fail again, so it starts anew."""
        return (self.folder / "config.json").is_file() and self.state() in ("running", "preempted", "unknown")

    def status(self) -> dict[str, Any]:
        """Its status.json; empty where there is none or it is damaged."""
        return json_object(self.folder / "status.json") or {}

    def state(self) -> str | None:
        """What its status.json says, None where there is none, "unknown" where it is damaged."""
        state = self.status().get("state")
        if isinstance(state, str):
            return state
        return "unknown" if (self.folder / "status.json").exists() else None


def planned_runs(arms: Sequence[Arm], study: Path) -> list[PlannedRun]:
    """Seed by seed, so that every arm has its first results early and an interrupted study is balanced."""
    seeds = sorted({seed for arm in arms for seed in arm.configs})
    return [
        PlannedRun(arm.name, seed, arm.configs[seed], study) for seed in seeds for arm in arms if seed in arm.configs
    ]


def with_earlier_arms(study: Path, family: Family, preset: str, arms: Sequence[Arm]) -> list[Arm]:
    """The arms together with those that the study already plans, so that nothing enters it uncompared.

    Raises UsageError where the study is of another family or preset, or has an arm of that name with other settings.
    """
    described = read_json(study / "study.json")
    if described is None:
        return list(arms)
    if "design" in described:
        raise other_study(study, "it was made by `sweeps study`")
    for field, value in (("family", family.name), ("preset", preset)):
        if described.get(field) != value:
            raise other_study(study, f"its {field} is {described.get(field)!r}, not {value!r}")
    merged = {arm.name: arm for arm in arms}
    for old in described["arms"]:
        name, settings = old["name"], old["settings"]
        files = {seed: str(study / "configs" / f"{name}-seed{seed}.json") for seed in old["seeds"]}
        earlier = Arm(name, settings, {seed: read_config(Path(file)) for seed, file in files.items()})
        new = merged.setdefault(name, earlier)
        if identity(new.any_config) != identity(earlier.any_config):
            other = differences({"there": earlier.any_config, "here": new.any_config}, ignored=PER_RUN)
            named = [f": {one.field} {one.values['there']} there, {one.values['here']} here" for one in other[:1]]
            raise other_study(study, f"its arm {name!r} has other settings{''.join(named)}")
        merged[name] = Arm(name, new.settings, {**earlier.configs, **new.configs})
    return list(merged.values())


def other_study(study: Path, difference: str) -> UsageError:
    """The refusal to mix two studies in one folder."""
    return UsageError(
        f"--study: expected a new folder or this very study, got {str(study)!r}: {difference}. "
        "Choose another --study, or move that one away"
    )


def identity(config: Config) -> str:
    """What the configs of an arm share: everything but the seed, what a fork starts from and the folder."""
    run = config.run.model_copy(update={"seed": 0, "start_from": None})
    return config_sha256(config.model_copy(update={"run": run}))


def set_aside(folder: Path, study: Path) -> None:
    """Move a folder that is to be made anew, if it is there, to the study's superseded/: nothing is overwritten."""
    if not folder.exists():
        return
    kept = study / "superseded"
    kept.mkdir(exist_ok=True)
    free = (kept / f"{folder.name}-{number}" for number in count(1))
    folder.rename(next(place for place in free if not place.exists()))


def write_study(
    study: Path,
    family: Family,
    preset: str,
    arms: Sequence[Arm],
    extra: Mapping[str, Any],
) -> None:
    """study.json, and the configs of its runs; `extra`: `claims` as sweeps.study.claims fixed them, and a design.

    Raises UsageError if a file of --task or --reward has changed since the study began.
    """
    code = own_code_hashes(arms[0].any_config)
    if (read_json(study / "study.json") or {}).get("code", code) != code:
        raise UsageError(
            f"{study}: expected the files of --task and --reward that the study began with, got others: restore them, "
            "or name a new study"
        )
    differences = differences_between(arms, family)
    for run in planned_runs(arms, study):
        run.write_config()
    content = {
        "schema_version": SCHEMA_VERSION,
        "family": family.name,
        "family_description": family.description,
        "preset": preset,
        "primary_outcome": PRIMARY_OUTCOME,
        "arms": [describe(arm, family) for arm in arms],
        "roles": {name: family.about(name) for name in named_in(arms, extra.get("design"))},
        "differences": [asdict(difference) for difference in differences],
        "confounds": [difference.field for difference in differences if not difference.allowed],
        **extra,
        "code": code,
        "plans": plans_with(study, arms),
    }
    write_json(study / "study.json", content)


def named_in(arms: Sequence[Arm], design: Mapping[str, Any] | None) -> list[str]:
    """The family's names of the arms: in a study of several blocks, whose arms are cells, those of its blocks."""
    if design is None:
        return [arm.name for arm in arms]
    return list(dict.fromkeys(cell["arm"] for block in design["blocks"].values() for cell in block["cells"]))


def plans_with(study: Path, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Every plan that the study has had, this one last: seeds that were added after looking must be seen as such."""
    described = read_json(study / "study.json") or {}
    plans: list[dict[str, Any]] = described.get("plans", [])
    seeds = {arm.name: sorted(arm.configs) for arm in arms}
    if plans and plans[-1]["seeds"] == seeds:
        return plans
    return [*plans, {"at": datetime.now(UTC).isoformat(timespec="seconds"), "seeds": seeds}]


class InUse(UsageError):
    """Another process holds the study's folder."""


@contextmanager
def locked(study: Path, name: str = ".lock") -> Iterator[None]:
    """Hold the study's folder, made where it is missing: two comparisons in one would start each run twice."""
    try:
        study.mkdir(parents=True, exist_ok=True)
        lock = FileLock(study / name, timeout=0)
        lock.acquire()
    except Timeout:
        raise InUse(f"--study: {str(study)!r} is being run by another process: wait for it, or stop it") from None
    except OSError as error:
        raise UsageError(
            f"--study: expected a folder that can be written, got {str(study)!r}: {error.strerror}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def describe(arm: Arm, family: Family) -> dict[str, Any]:
    """An arm as study.json lists it; a control of the family that sets no control of the task goes by its own name."""
    config = arm.any_config
    control: str = config.task.control
    if control == "none" and arm.name in family.controls:
        control = arm.name
    return {
        "name": arm.name,
        "loss_type": config.loss.loss_type,
        "control": control,
        "seeds": sorted(arm.configs),
        "settings": dict(arm.settings),
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal such as metrics.jsonl. Raises UsageError where one is broken."""
    try:
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a JSON object a line, got: {error}: restore it") from None


def evaluation_means(table: Path) -> dict[str, float]:
    """Means over an evaluation's answers of correct, response_tokens and truncated; each prompt has as many answers.

    Empty where there is no such file. Raises UsageError where it is broken.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not table.is_file():
        return {}
    try:
        columns = pq.read_table(table, columns=["correct", "response_tokens", "truncated"])
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{table}: expected a table written by this program, got: {error}: move it away") from None
    return {name: fmean(map(float, columns[name].to_pylist())) for name in columns.column_names}


def read_json(path: Path) -> Any:
    """The file's content, or None where there is no such file. Raises UsageError where it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected JSON written by this program, got: {error}: move it away") from None
