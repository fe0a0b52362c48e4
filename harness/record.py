"""The run folder: written here alone, append-only while the run goes on. Its schema is docs/run_folder.md."""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.batching import MicroBatch, advantages_of
from harness.config import Config
from harness.errors import UsageError
from harness.evaluation import Answer
from harness.metrics import Metrics
from harness.policy import Policy
from harness.rollouts import Rollouts
from harness.settings import config_sha256, tree_of
from harness.update import LossRecord
from losses import LossOutput

SCHEMA_VERSION = 1
TOKEN_ROWS = 4  # responses per step whose tokens are kept one by one


def refuse_used_folder(folder: Path) -> None:
    """Raise UsageError if the folder holds anything, since nothing is ever overwritten, or could not be made."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"--output_dir: expected a new or empty folder, got {str(folder)!r}, which holds a run or files"
        )
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UsageError(f"--output_dir: expected a folder that can be made, got {str(folder)!r}: see {nearest}")


def make_folder(path: Path) -> None:
    """Make the folder and those above it; raises UsageError where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output_dir: expected a folder that can be made, got {str(path)!r}: {error.strerror}"
        ) from None


def write_json(path: Path, content: Any) -> None:
    """The whole file or nothing: written beside, flushed to disk, then renamed."""
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_table(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
    """A parquet file of the rows, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), beside)
    beside.replace(path)


ROLLOUT_SCHEMA = pa.schema(
    {
        "step": pa.int32(),
        "round": pa.int32(),
        "prompt_id": pa.string(),
        "sample": pa.int32(),
        "prompt": pa.string(),
        "text": pa.string(),
        "tokens": pa.list_(pa.int32()),
        "response_tokens": pa.int32(),
        "truncated": pa.bool_(),
        "correct": pa.bool_(),
        "reward": pa.float64(),
        "trained": pa.bool_(),
        "advantage": pa.float64(),
        "influence_weight": pa.float64(),
    }
)
TOKEN_SCHEMA = pa.schema(
    {
        "step": pa.int32(),
        "prompt_id": pa.string(),
        "sample": pa.int32(),
        "position": pa.int32(),
        "token": pa.int32(),
        "text": pa.string(),
        "log_ratio": pa.float64(),
        "future_kl": pa.float64(),
        "influence_weight": pa.float64(),
    }
)
EVAL_SCHEMA = pa.schema(
    {
        "step": pa.int32(),
        "prompt_id": pa.string(),
        "sample": pa.int32(),
        "text": pa.string(),
        "answer": pa.string(),
        "correct": pa.bool_(),
        "response_tokens": pa.int32(),
        "truncated": pa.bool_(),
    }
)


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """One run's records."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: Config, environment: dict[str, Any]) -> "RunFolder":
        """Begin the records in a new or empty folder: settings and surroundings; the state is `running`."""
        refuse_used_folder(path)
        make_folder(path)
        folder = cls(path)
        folder.set_status("running", None, None, 0)
        content = {"schema_version": SCHEMA_VERSION, "sha256": config_sha256(config), "config": tree_of(config)}
        write_json(path / "config.json", content)
        write_json(path / "environment.json", environment)
        return folder

    def set_status(self, state: str, reason: str | None, exit_code: int | None, steps_done: int) -> None:
        """Replace status.json."""
        content = {"state": state, "reason": reason, "exit_code": exit_code, "steps_done": steps_done}
        write_json(self.path / "status.json", content)

    def add_metrics(self, metrics: Metrics) -> None:
        """Append one line to metrics.jsonl. A number that is not finite is written as null."""
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in metrics.items()
        }
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite, allow_nan=False) + "\n")

    def add_rollouts(self, step: int, rollouts: Rollouts, record: LossRecord, config: Config) -> None:
        """Every response of the step, discarded ones too."""
        kept = [response for group in rollouts.kept for response in group]
        advantages = dict(zip((response.key for response in kept), advantages_of(rollouts.kept, config), strict=True))
        rows = []
        for response in rollouts.responses:
            weights = record.response_weights.get(response.key)
            rows.append(
                {
                    "step": step,
                    "round": response.round,
                    "prompt_id": response.problem.prompt_id,
                    "sample": response.sample,
                    "prompt": response.problem.prompt,
                    "text": response.text,
                    "tokens": response.tokens,
                    "response_tokens": len(response.tokens),
                    "truncated": response.truncated,
                    "correct": response.correct,
                    "reward": response.reward,
                    "trained": response.key in advantages,
                    "advantage": advantages.get(response.key),
                    "influence_weight": sum(weights) / len(weights) if weights else None,
                }
            )
        write_table(self.path / "rollouts" / f"step_{step:06d}.parquet", rows, ROLLOUT_SCHEMA)

    def add_tokens(self, step: int, batch: MicroBatch, output: LossOutput, policy: Policy) -> None:
        """Token by token, the first responses of the step's last update."""
        rows = []
        trained = [pair for pair in enumerate(batch.responses) if output.mask[pair[0]].any()]
        for row, response in trained[:TOKEN_ROWS]:
            values = {name: tensor[row].tolist() for name, tensor in output.diagnostics.items()}
            for position, token in enumerate(response.tokens):
                rows.append(
                    {
                        "step": step,
                        "prompt_id": response.problem.prompt_id,
                        "sample": response.sample,
                        "position": position,
                        "token": token,
                        "text": policy.tokenizer.decode([token]),
                        "log_ratio": -values["kl_to_old"][position],
                        "future_kl": values["future_kl"][position] if "future_kl" in values else None,
                        "influence_weight": values["influence_weight"][position] if "future_kl" in values else None,
                    }
                )
        write_table(self.path / "tokens" / f"step_{step:06d}.parquet", rows, TOKEN_SCHEMA)

    def add_evaluation(self, answers: list[Answer]) -> None:
        """The answers of one evaluation."""
        path = self.path / "evals" / f"step_{answers[0].step:06d}.parquet"
        write_table(path, [dataclasses.asdict(answer) for answer in answers], EVAL_SCHEMA)

    def save_weights(self, policy: Policy) -> None:
        """The weights as a transformers folder, and a manifest of its files, written last."""
        folder = self.path / "checkpoints" / "final"
        policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
        write_json(folder / "manifest.json", hashes)
