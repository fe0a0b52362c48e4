"""Reads a run folder. Damaged files raise UsageError, except for an incomplete last line, which a killed run leaves."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.resolve import resolve_tree, tree_sha256
from harness.config.schema import Config
from harness.errors import UsageError
from harness.files import json_object, sha256_of
from harness.run.folder import CHECKPOINTS, METRICS, RECORDS, SCHEMA_VERSION, STATUS, FolderFault, check_manifest

Row = dict[str, Any]


@dataclass(frozen=True)
class History:
    """A recorded run: settings, environment and records by step."""

    path: Path
    config: Config
    environment: dict[str, Any]
    state: str  # from status.json; "unknown" if that file is damaged

    @cached_property
    def metrics(self) -> list[Row]:
        """The lines of metrics.jsonl. Raises UsageError if any line but the last is damaged."""
        return read_lines(self.path / METRICS)

    @property
    def steps_done(self) -> int:
        return len(self.metrics)

    @property
    def initial_weights(self) -> Path:
        """The folder of the initial weights; it exists only if the run saved them."""
        return self.path / CHECKPOINTS / "initial"

    @property
    def final_weights(self) -> Path:
        """The folder of the trained weights; it exists once the run has finished."""
        return self.path / CHECKPOINTS / "final"

    def check_records(self) -> None:
        """Raise UsageError if a stored table or the final weights have changed since they were written."""
        path = self.path / RECORDS
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
            digest, _, name = line.partition("  ")
            path = self.path / name
            if name.endswith(".parquet") and path.is_file() and sha256_of(path) != digest:
                raise UsageError(f"{path}: has changed since it was written (sha256): restore it, or delete it")
        if self.final_weights.is_dir():
            try:
                check_manifest(self.final_weights)
            except FolderFault as fault:
                raise UsageError(str(fault)) from None

    def check_reachable(self, step: int) -> None:
        """Raise UsageError unless the state after `step` steps can be had from checkpoints and stored rollouts."""
        settings = self.config
        if not 0 <= step <= self.steps_done:
            raise UsageError(f"expected a step among the {self.steps_done} that {self.path} has done, got {step}")
        if settings.backend.backend != "torch" or settings.model.lora_rank:
            raise UsageError(f"{self.path}: expected a run of one process that trains whole weights, got another")
        kept = [at for at in range(1, step + 1) if (self.path / CHECKPOINTS / f"step_{at:06d}").is_dir()]
        self.check_rollouts(range(max(kept, default=0), step))

    def check_rollouts(self, steps: range) -> None:
        """Raise UsageError unless the rollouts of all these steps are stored."""
        if missing := [step for step in steps if not self.has_table("rollouts", step)]:
            raise UsageError(
                f"{self.path}: expected stored rollouts of steps {steps.start} to {steps.stop - 1}, got none of step "
                f"{missing[0]}: use a run made with --record_rollouts all, or steps after a checkpoint that is kept"
            )

    def has_table(self, kind: str, step: int) -> bool:
        """Whether the step's table is stored; `kind` is rollouts, tokens or evals."""
        return self.table_path(kind, step).is_file()

    def table_path(self, kind: str, step: int) -> Path:
        return self.path / kind / f"step_{step:06d}.parquet"

    def table(self, kind: str, step: int) -> list[Row] | None:
        """The rows of the step's table, or None if it is not stored. Raises UsageError if it cannot be read."""
        path = self.table_path(kind, step)
        if not path.is_file():
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            rows: list[Row] = pq.read_table(path).to_pylist()
        except (OSError, ValueError, pa.ArrowException) as error:
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"{path}: expected a parquet file, got: {cause}") from None
        return rows


def read_history(path: Path) -> History:
    """Read the run in a folder. Raises UsageError if there is none or its settings have been changed."""
    content = read_object(path / "config.json")
    tree = content.get("config")
    if content.get("schema_version") != SCHEMA_VERSION or not isinstance(tree, dict):
        version = content.get("schema_version")
        raise UsageError(
            f"{path / 'config.json'}: expected a run of schema version {SCHEMA_VERSION}, got {version!r}: "
            "use the version of this program that wrote it"
        )
    if tree_sha256(tree) != content.get("sha256"):
        raise UsageError(
            f"{path / 'config.json'}: the settings have changed since they were written (sha256): restore the file, or "
            "start a new run"
        )
    environment = read_object(path / "environment.json")
    state = (json_object(path / STATUS) or {}).get("state")
    config = resolve_tree(tree, path / "config.json")
    return History(path, config, environment, state if isinstance(state, str) else "unknown")


def unfinished(path: Path) -> History:
    """Read a run that is to be resumed. Raises UsageError if there is none in the folder or it has finished."""
    history = read_history(path)
    if history.state == "finished":
        raise UsageError(f"expected an unfinished run, got {str(path)!r}, which has finished: nothing to resume")
    return history


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object. Raises UsageError if the file is missing or damaged."""
    if not path.is_file():
        raise UsageError(f"expected the folder of a run, got {str(path.parent)!r}: it has no {path.name}")
    content = json_object(path)
    if content is None:
        raise UsageError(f"{path}: expected a JSON object written by this program: restore it, or start a new run")
    return content


def read_lines(path: Path) -> list[Row]:
    """The objects in metrics.jsonl, without an incomplete last line. Raises UsageError for any other damage."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    rows = []
    for number, line in enumerate(lines[:-1]):  # the last one is incomplete or empty
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or type(row.get("step")) is not int or row["step"] != number:
            raise UsageError(f"{path}: expected the metrics of step {number} on line {number + 1}, got {line[:60]!r}")
        rows.append(row)
    return rows
