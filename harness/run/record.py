"""Writes a run's records into its folder. docs/run_folder.md has the schema; files are only added or appended to."""

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from harness.algorithm.batching import MicroBatch
from harness.algorithm.loss_metrics import LossRecord
from harness.algorithm.metrics import Metrics
from harness.algorithm.state import Training
from harness.algorithm.update import Trained
from harness.config.resolve import config_sha256, tree_of
from harness.config.schema import Config
from harness.console import command
from harness.errors import UsageError, as_usage_error
from harness.files import Journal, make_synced, sha256_of, sync, write_json, write_table
from harness.model.lora import exported
from harness.model.policy import Policy
from harness.rollouts.collect import Rollouts
from harness.rollouts.held_out import Answer
from harness.run.checkpoint import gather_tensors, prune, save_state, save_weights, whole_weights
from harness.run.folder import CHECKPOINTS, METRICS, RECORDS, SCHEMA_VERSION, STATUS
from harness.tasks.own_files import CODE, content, own_files
from losses import LossOutput

TOKEN_ROWS = 4  # responses per step that are recorded token by token


def refuse_used_folder(folder: Path) -> None:
    """Raise UsageError unless the folder is new or empty and can be created: nothing is ever overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"--output_dir: expected a new or empty folder, got {str(folder)!r}, which holds a run or files: choose "
            f"another, or continue a stopped run with: {command('harness', 'resume', folder)}"
        )
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    reason = f"{nearest} is not a folder that you can write to"
    if above := [parent for parent in folder.resolve().parents if (parent / RECORDS).is_file()]:
        reason = f"it lies inside the run {above[0]}"
    elif folder.exists() and (folder.samefile(Path.cwd()) or folder.is_mount()):
        reason = "it is the current folder or a mount point: name a folder inside it"
    elif nearest.is_dir() and os.access(nearest, os.W_OK):
        return
    raise UsageError(f"--output_dir: expected a folder that can be created, got {str(folder)!r}: {reason}")


def make_folder(path: Path) -> None:
    """Create the folder and its parents. Raises UsageError if that fails."""
    with as_usage_error(f"--output_dir: expected a folder that can be created, got {str(path)!r}"):
        path.mkdir(parents=True, exist_ok=True)


def schema_of(columns: str) -> pa.Schema:
    """The arrow schema of columns written as "name type, name type[], ..."."""
    pairs = [column.split() for column in columns.split(",")]
    types = {name: pa.type_for_alias(kind.removesuffix("[]")) for name, kind in pairs}
    return pa.schema([(name, pa.list_(types[name]) if kind.endswith("[]") else types[name]) for name, kind in pairs])


ROLLOUT_SCHEMA = schema_of("""
    step int32, round int32, prompt_id string, sample int32, prompt string, target string, text string, tokens int32[],
    old_logprobs float[], sampler_logprobs float[], response_tokens int32, truncated bool, correct bool, outcome string,
    why string, correct_leniently bool, reward double, trained bool, advantage double, influence_weight double
""")
ROLLOUT_SCHEMA = ROLLOUT_SCHEMA.append(pa.field("rewards", pa.map_(pa.string(), pa.float64())))
TOKEN_SCHEMA = schema_of("""
    step int32, prompt_id string, sample int32, position int32, token int32, text string, log_ratio double,
    future_kl double, influence_weight double
""")
EVAL_SCHEMA = schema_of("""
    step int32, prompt_id string, sample int32, text string, answer string, correct bool, outcome string,
    response_tokens int32, truncated bool, correct_leniently bool
""")


class RunFolder:
    """One run's records. The sha256 of each table and settings file is in records.sha256, for `sha256sum -c`."""

    keeps_sampler_logprobs = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = Journal(path / METRICS)
        self.records = Journal(path / RECORDS)

    @classmethod
    def create(cls, path: Path, config: Config, environment: dict[str, Any], initial: Policy | None) -> "RunFolder":
        """Create the folder of a new run in state `running`, with settings, environment and `initial` weights, if any.

        The folder is written under another name and then renamed, so that every run folder can be resumed. Raises
        UsageError unless the folder is new or empty.
        """
        refuse_used_folder(path)
        real = path.resolve()
        unfinished = real.with_name(f".{real.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        make_folder(unfinished)
        folder = cls(unfinished)
        content = {"schema_version": SCHEMA_VERSION, "sha256": config_sha256(config), "config": tree_of(config)}
        folder.add_json("config.json", content)
        folder.add_json("environment.json", environment)
        for file in own_files(config).values():
            folder.add_code(file)
        folder.set_status("running", None, None, 0)
        if initial:
            save_weights(unfinished / CHECKPOINTS / "initial", initial, dict(exported(initial.model)))
        unfinished.rename(real)
        sync(real.parent)
        return cls(path)

    def set_status(
        self, state: str, reason: str | None, exit_code: int | None, steps_done: int, code: str | None = None
    ) -> None:
        """Replace status.json. `code` is the reason code of a run that has ended, None while it is running."""
        content = {"state": state, "reason_code": code, "reason": reason, "exit_code": exit_code}
        write_json(self.path / STATUS, content | {"steps_done": steps_done})

    def add_metrics(self, metrics: Metrics) -> None:
        """Append a line to metrics.jsonl; numbers that are not finite become null."""
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in metrics.items()
        }
        self.metrics.append(json.dumps(finite, allow_nan=False))

    def add_json(self, name: str, content: Any) -> None:
        """Write a JSON file and record its sha256: it must not change afterwards."""
        write_json(self.path / name, content)
        self.add_hash(name)

    def add_code(self, file: Path) -> None:
        """Keep a copy of a file of --task or --reward, which resuming and reproducing the run load."""
        (self.path / CODE).mkdir(exist_ok=True)
        kept = self.path / CODE / file.name
        if not kept.exists():  # task and rewards may share a file
            kept.write_bytes(content(file.resolve()))
            self.add_hash(f"{CODE}/{file.name}")

    def add_table(self, kind: str, step: int, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> None:
        name = f"{kind}/step_{step:06d}.parquet"
        make_synced(self.path / kind)
        write_table(self.path / name, rows, schema)
        self.add_hash(name)

    def add_hash(self, name: str) -> None:
        self.records.append(f"{sha256_of(self.path / name)}  {name}")

    def add_step(self, step: int, rollouts: Rollouts, record: LossRecord, trained: Trained, policy: Policy) -> None:
        """Record all responses of the step, and TOKEN_ROWS of them token by token."""
        self.add_rollouts(step, rollouts, record, trained)
        if record.latest:
            self.add_tokens(step, *record.latest, policy)

    def add_rollouts(self, step: int, rollouts: Rollouts, record: LossRecord, trained: Trained) -> None:
        """Record every response of the step, including those that were not trained on."""
        rows = []
        for response in rollouts.responses:
            weights, known = record.response_weights.get(response.key), trained.get(response.key)
            rows.append(
                {
                    "step": step,
                    "round": response.round,
                    "prompt_id": response.problem.prompt_id,
                    "sample": response.sample,
                    "prompt": response.problem.prompt,
                    "target": response.problem.answer,
                    "text": response.text,
                    "tokens": response.tokens,
                    "old_logprobs": known.old_logprobs if known else None,
                    "sampler_logprobs": response.sampler_logprobs if self.keeps_sampler_logprobs else None,
                    "response_tokens": len(response.tokens),
                    "truncated": response.truncated,
                    "correct": response.correct,
                    "outcome": response.grade.outcome,
                    "why": response.grade.why,
                    "correct_leniently": response.grade.is_right_leniently,
                    "reward": response.reward,
                    "rewards": response.rewards,
                    "trained": known is not None,
                    "advantage": known.advantage if known else None,
                    "influence_weight": sum(weights) / len(weights) if weights else None,
                }
            )
        self.add_table("rollouts", step, rows, ROLLOUT_SCHEMA)

    def add_tokens(self, step: int, batch: MicroBatch, output: LossOutput, policy: Policy) -> None:
        """Record TOKEN_ROWS responses of the step's last update token by token, half of them right if possible."""
        rows = []
        trained = [pair for pair in enumerate(batch.responses) if output.mask[pair[0]].any()]
        right, wrong = ([pair for pair in trained if pair[1].correct is correct] for correct in (True, False))
        half = TOKEN_ROWS // 2
        chosen = [*right[:half], *wrong[:half], *right[half:], *wrong[half:]][:TOKEN_ROWS]
        for row, response in sorted(chosen, key=lambda pair: pair[0]):
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
        self.add_table("tokens", step, rows, TOKEN_SCHEMA)

    def add_evaluation(self, answers: list[Answer]) -> None:
        self.add_table("evals", answers[0].step, [vars(answer) for answer in answers], EVAL_SCHEMA)

    def has_evaluation(self, step: int) -> bool:
        """Whether the evaluation after `step` training steps is recorded."""
        return (self.path / "evals" / f"step_{step:06d}.parquet").is_file()

    def add_checkpoint(self, training: Training) -> None:
        """Save what a resumed run needs, and delete old checkpoints."""
        folder = self.path / CHECKPOINTS / f"step_{training.steps_done:06d}"
        save_state(folder, training, self.metrics.mark(), self.records.mark())
        prune(self.path / CHECKPOINTS)

    def add_final_weights(self, training: Training) -> None:
        """Save the trained weights, with adapters merged, and delete old checkpoints."""
        save_weights(self.path / CHECKPOINTS / "final", training.policy, whole_weights(training))
        prune(self.path / CHECKPOINTS)


class NullRunFolder(RunFolder):
    """The run folder as ranks other than the first see it: they take part in gathers and write nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ignore(self, *_: Any, **__: Any) -> None: ...

    set_status = add_metrics = add_table = add_step = ignore

    def add_checkpoint(self, training: Training) -> None:
        gather_tensors(training)

    def add_final_weights(self, training: Training) -> None:
        whole_weights(training)
