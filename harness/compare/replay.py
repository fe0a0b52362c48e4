"""Applies another loss to the batches and weights of a recorded run.

The run's updates are repeated from its stored rollouts. At each update both losses see the same policy, responses and
old log-probabilities; the other loss's gradient is measured but not applied.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.nonfinite import NonFinite
from harness.algorithm.state import Training, make_loss
from harness.algorithm.step_updates import StepUpdates
from harness.algorithm.update import KnownLogprobs, Updater, known_logprobs
from harness.config.resolve import tree_of
from harness.config.scale import BackendSettings
from harness.config.schema import Config
from harness.console import say
from harness.errors import UsageError
from harness.files import Journal, Mark, write_json
from harness.model.lora import exported
from harness.model.policy import Policy, load_policy
from harness.rollouts.collect import Group, Response
from harness.run.checkpoint import begin_run, kept_checkpoints, load_checkpoint, read_state, save_state
from harness.run.environment import tensors_sha256
from harness.run.folder import CHECKPOINTS, FolderFault, check_manifest
from harness.run.history import History, Row
from harness.run.initial_model import recorded_initial_policy
from harness.run.record import make_folder, refuse_used_folder
from harness.tasks.task import Grade, Problem

Line = dict[str, Any]
NOWHERE = Mark(0, "")  # a checkpoint of its own belongs to no journal


@dataclass
class Replay:
    """A run that is being repeated, and the updater of the other loss."""

    history: History
    training: Training
    other: Updater
    off: float = 0.0  # largest difference from the recorded old log-probabilities; 0 for an exact replay


def replay_run(history: History, other: Config, steps: range, out: Path) -> Iterator[list[Line]]:
    """Yield each step's lines, one per update, and write them to `out`/replay.jsonl; at the end says how exact it was.

    Starts at the newest checkpoint before the first step, or at the initial weights. Raises UsageError if those are not
    available or the rollouts of a step are not stored.
    """
    refuse_used_folder(out)
    replay = begin_replay(history, other, steps.start)
    check_rollouts(history, range(replay.training.steps_done, steps.stop))
    make_folder(out)
    settings = {"own": tree_of(history.config), "other": tree_of(other)}
    write_json(out / "replay.json", {"run": str(history.path.absolute()), **settings})
    journal = Journal(out / "replay.jsonl")
    while replay.training.steps_done < steps.stop:
        lines = list(replay_step(replay))
        if replay.training.steps_done > steps.start:
            for line in lines:
                finite = {key: value if value is None or math.isfinite(value) else None for key, value in line.items()}
                journal.append(json.dumps(finite, allow_nan=False))
            yield lines
    say(exactness(replay))


def write_checkpoint(history: History, step: int, out: Path) -> str:
    """Write the run's state after `step` steps as a folder for --start_from, and return how exact it is.

    Updates since the newest checkpoint are repeated. Raises UsageError if it cannot be reached or `out` is in use.
    """
    refuse_used_folder(out)
    history.check_reachable(step)
    replay = begin_replay(history, history.config, step)
    check_rollouts(history, range(replay.training.steps_done, step))
    repeated = step - replay.training.steps_done
    while replay.training.steps_done < step:
        list(replay_step(replay))
    save_state(out, replay.training, NOWHERE, NOWHERE)
    return f"{repeated} of {step} steps repeated, {exactness(replay)}"


def begin_replay(history: History, other: Config, first_step: int) -> Replay:
    history, other = replace(history, config=in_this_process(history.config)), in_this_process(other)
    with_reference = history.config.loss.needs_reference or other.loss.needs_reference
    training = training_at(history, recorded_initial_policy(history) if with_reference else None, first_step)
    own = training.updater
    return Replay(history, training, Updater(own.backend, make_loss(other), other))


def in_this_process(config: Config) -> Config:
    """The config, changed to a single process with torch's engine."""
    engine = config.engine.model_copy(update={"engine": "torch"})
    return config.model_copy(update={"backend": BackendSettings(), "engine": engine})


def training_at(history: History, reference: Policy | None, step: int) -> Training:
    """The run's state at the newest usable checkpoint of at most `step` steps, or at its start."""
    for folder in kept_checkpoints(history.path / CHECKPOINTS):
        try:
            state = read_state(folder)
            if state.steps_done <= step:
                return load_checkpoint(folder, state, history.config, reference)
        except FolderFault as fault:
            say(f"note: {fault}; {folder.name} is not used")
    return begin_run(history.config, recorded_initial_policy(history), reference)


def replay_step(replay: Replay) -> Iterator[Line]:
    """Repeat the updates of the run's next step; yield a line for each."""
    training, own, other = replay.training, replay.training.updater, replay.other
    config, step = own.config, training.steps_done
    task, rows = training.task, trained_rows(replay.history, step)
    groups = groups_of(rows, training)
    minibatches, others = (plan_minibatches(groups, training.policy, task, each) for each in (config, other.config))
    known = known_logprobs(own.backend, training.reference, minibatches, config.rollout.temperature)
    replay.off = float(np.max([replay.off, distance(rows, minibatches, known)]))  # unlike max, np.max propagates NaN
    updates = [batch for _ in range(config.optimizer.epochs) for batch in zip(minibatches, others, known, strict=True)]
    for number, (ours, theirs, logprobs) in enumerate(updates):
        measured = measure(other, theirs, logprobs)
        direction = [p.grad.clone() for p in training.policy.model.parameters() if p.grad is not None]
        gradient, record = own.gradient(ours, logprobs), LossRecord(metric_names(own.loss))
        cosine = cosine_of(direction, [p.grad for p in training.policy.model.parameters() if p.grad is not None])
        try:
            own.apply(gradient, ours, record)
        except NonFinite:
            continue  # no step is taken, as in the run
        yield {
            "step": step,
            "update": number,
            "cosine": cosine,
            "norm": float(gradient.norm),
            "other_norm": measured.gradient_norms[0],
            **{f"own/{name}": value for name, value in record.means().items()},
            **{f"other/{name}": value for name, value in measured.means().items()},
        }
    training.steps_done = step + 1


def measure(updater: Updater, minibatch: list[MicroBatch], known: list[KnownLogprobs]) -> LossRecord:
    """The loss's metrics on the minibatch under the current weights; leaves the gradient in the parameters' .grad."""
    gradient, record = updater.gradient(minibatch, known), LossRecord(metric_names(updater.loss))
    for batch, forward in zip(minibatch, gradient.forwards, strict=True):
        record.add(batch, forward)
    record.gradient_norms.append(float(gradient.norm))
    return record


def cosine_of(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float | None:
    """The cosine of two gradients over all parameters, in float64; None if one of them is 0 or not finite."""
    dot, aa, bb = (
        sum(float(torch.dot(x.flatten().double(), y.flatten().double())) for x, y in zip(left, right, strict=True))
        for left, right in ((a, b), (a, a), (b, b))
    )
    cosine = dot / math.sqrt(aa * bb) if aa * bb > 0 else math.nan
    return cosine if math.isfinite(cosine) else None


def distance(rows: Sequence[Row], minibatches: list[list[MicroBatch]], known: list[list[KnownLogprobs]]) -> float:
    """The largest difference between recorded and recomputed old log-probabilities."""
    again = StepUpdates(minibatches, known, LossRecord(())).trained()
    differences = [
        abs(ours - theirs)
        for row in rows
        for ours, theirs in zip(again[row["prompt_id"], row["sample"]].old_logprobs, row["old_logprobs"], strict=True)
    ]
    return float(np.max(differences, initial=0.0))


def exactness(replay: Replay) -> str:
    """A phrase that says how closely the replay followed the run."""
    history = replay.history
    followed = f"old log-probabilities within {replay.off:.3g} of those recorded"
    if replay.training.steps_done < history.config.run.steps or not history.final_weights.is_dir():
        return followed
    check_manifest(history.final_weights)
    final = load_policy(str(history.final_weights), history.config.model.dtype)
    same = tensors_sha256(exported(final.model)) == tensors_sha256(exported(replay.training.policy.model))
    return f"{followed}; the final weights are {'identical to' if same else 'not'} those of the run"


def check_rollouts(history: History, steps: range) -> None:
    """Raise UsageError unless the rollouts of all these steps are stored."""
    missing = [step for step in steps if not history.has_table("rollouts", step)]
    if missing:
        raise UsageError(
            f"{history.path}: expected stored rollouts of steps {steps.start} to {steps.stop - 1}, got none of step "
            f"{missing[0]}: use a run made with --record_rollouts all, or start at a checkpoint with --first_step"
        )


def trained_rows(history: History, step: int) -> list[Row]:
    """The rows of the responses that a step trained on, in the order of their prompts."""
    rows = history.table("rollouts", step) or []
    if rows and "old_logprobs" not in rows[0]:
        raise UsageError(
            f"{history.path}: expected rollouts with old_logprobs and target, got those of an older version"
        )
    return [row for row in rows if row["trained"]]


def groups_of(rows: Sequence[Row], training: Training) -> list[Group]:
    """The responses, grouped by prompt. Scores and entropies are not recorded, so they are NaN."""
    groups = groupby(rows, key=lambda row: str(row["prompt_id"]))
    return [[response_of(row, training) for row in group] for _, group in groups]


def response_of(row: Row, training: Training) -> Response:
    return Response(
        problem=Problem(row["prompt"], row["target"]),
        step=training.first_step + row["step"],
        sample=row["sample"],
        round=row["round"],
        prompt_tokens=training.policy.encode(row["prompt"]),
        tokens=row["tokens"],
        text=row["text"],
        entropy_sum=math.nan,
        sampler_logprobs=row.get("sampler_logprobs") or [math.nan] * len(row["tokens"]),
        truncated=row["truncated"],
        grade=Grade(row["outcome"], None, row["why"]),
        score=math.nan,
        reward=row["reward"],
    )
