"""Another loss on the very data and weights of a recorded run: losses compared on identical batches.

The run's own updates are made again from its stored rollouts, so that at each of them both losses see the same policy,
the same responses and the same old log-probabilities. What the other loss would do is measured and never applied.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.nonfinite import NonFinite
from harness.algorithm.state import Training, begin, make_loss
from harness.algorithm.trained import trained_responses
from harness.algorithm.update import KnownLogprobs, Updater, known_logprobs
from harness.config.resolve import tree_of
from harness.config.scale import BackendSettings
from harness.config.schema import Config
from harness.console import Say
from harness.files import Journal, write_json
from harness.model.lora import exported
from harness.model.policy import Policy, load_policy
from harness.run.checkpoint import kept_checkpoints, load_checkpoint, read_state
from harness.run.environment import tensors_sha256
from harness.run.folder import FolderFault, check_manifest
from harness.run.history import History, Row
from harness.run.initial_model import recorded_initial_policy
from harness.run.layout import CHECKPOINTS
from harness.run.record import make_folder, refuse_used_folder
from harness.run.stored import check_rollouts, groups_of, trained_rows

Line = dict[str, Any]


@dataclass
class Replay:
    """A run being replayed, and how far what is computed again lies from what it recorded."""

    history: History
    training: Training
    other: Updater
    off: float = 0.0  # the largest difference of old log-probabilities; 0 where the replay follows the run exactly


def replay_run(history: History, other: Config, steps: range, out: Path, say: Say) -> Iterator[list[Line]]:
    """The lines of each of the steps in turn, written to `out`/replay.jsonl as well; at the end, whether it was exact.

    It begins at the newest checkpoint kept before the first step, else at the initial weights. Raises UsageError where
    those cannot be had, or the rollouts of a step from there on are not stored.
    """
    refuse_used_folder(out)
    replay = begin_replay(history, other, steps.start, say)
    check_rollouts(history, range(replay.training.steps_done, steps.stop))
    make_folder(out)
    settings = {"own": tree_of(history.config), "other": tree_of(other)}
    write_json(out / "replay.json", {"run": str(history.path.absolute()), **settings})
    journal = Journal(out / "replay.jsonl")
    while replay.training.steps_done < steps.stop:
        lines = list(replay_step(replay))
        if replay.training.steps_done > steps.start:
            for line in lines:
                journal.append(json.dumps({key: finite(value) for key, value in line.items()}, allow_nan=False))
            yield lines
    say(exactness(replay))


def finite(value: Any) -> Any:
    """The value, or None for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def begin_replay(history: History, other: Config, first_step: int, say: Say) -> Replay:
    """The run where the replay begins, and the other loss at its weights."""
    history, other = replace(history, config=in_this_process(history.config)), in_this_process(other)
    with_reference = history.config.loss.needs_reference or other.loss.needs_reference
    training = training_at(history, recorded_initial_policy(history, say) if with_reference else None, first_step, say)
    own = training.updater
    return Replay(history, training, Updater(own.backend, make_loss(other), other))


def in_this_process(config: Config) -> Config:
    """The settings for this process alone, whatever ranks and engine the run had."""
    engine = config.engine.model_copy(update={"engine": "torch"})
    return config.model_copy(update={"backend": BackendSettings(), "engine": engine})


def training_at(history: History, reference: Policy | None, step: int, say: Say) -> Training:
    """The run as it was after `step` steps, or at the last point before that was kept."""
    for folder in kept_checkpoints(history.path / CHECKPOINTS):
        try:
            state = read_state(folder)
            if state.steps_done <= step:
                return load_checkpoint(folder, state, history.config, reference)
        except FolderFault as fault:
            say(f"note: {fault}; {folder.name} is not used")
    return begin(history.config, recorded_initial_policy(history, say), reference)


def replay_step(replay: Replay) -> Iterator[Line]:
    """A line per update of the run's next step, and the updates themselves."""
    training, own, other = replay.training, replay.training.updater, replay.other
    config, step = own.config, training.steps_done
    task, rows = training.task, trained_rows(replay.history, step)
    groups = groups_of(rows, training.policy)
    minibatches, others = (plan_minibatches(groups, training.policy, task, each) for each in (config, other.config))
    known = known_logprobs(own.backend, training.reference, minibatches, config.rollout.temperature)
    replay.off = float(np.max([replay.off, distance(rows, minibatches, known)]))  # unlike max, a NaN stays one
    updates = [batch for _ in range(config.optimizer.epochs) for batch in zip(minibatches, others, known, strict=True)]
    for number, (ours, theirs, logprobs) in enumerate(updates):
        measured = measure(other, theirs, logprobs)
        direction = [p.grad.clone() for p in training.policy.model.parameters() if p.grad is not None]
        gradient, record = own.gradient(ours, logprobs), LossRecord(metric_names(own.loss))
        cosine = cosine_of(direction, [p.grad for p in training.policy.model.parameters() if p.grad is not None])
        try:
            own.apply(gradient, ours, record)
        except NonFinite:
            continue  # nothing is stepped, as in the run
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
    """What the loss says of the minibatch at the policy's weights; its gradient is left in the parameters."""
    gradient, record = updater.gradient(minibatch, known), LossRecord(metric_names(updater.loss))
    for batch, forward in zip(minibatch, gradient.forwards, strict=True):
        record.add(batch, forward)
    record.gradient_norms.append(float(gradient.norm))
    return record


def cosine_of(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float | None:
    """The cosine of two gradients over all parameters, in float64; None where one of them is 0 or not finite."""
    dot, aa, bb = (
        sum(float(torch.dot(x.flatten().double(), y.flatten().double())) for x, y in zip(left, right, strict=True))
        for left, right in ((a, b), (a, a), (b, b))
    )
    cosine = dot / math.sqrt(aa * bb) if aa * bb > 0 else math.nan
    return cosine if math.isfinite(cosine) else None


def distance(rows: Sequence[Row], minibatches: list[list[MicroBatch]], known: list[list[KnownLogprobs]]) -> float:
    """The largest difference between the recorded old log-probabilities and those computed again."""
    advantages = {(row["prompt_id"], row["sample"]): row["advantage"] for row in rows}
    again = trained_responses(minibatches, known, advantages)
    differences = [
        abs(ours - theirs)
        for row in rows
        for ours, theirs in zip(again[row["prompt_id"], row["sample"]].old_logprobs, row["old_logprobs"], strict=True)
    ]
    return float(np.max(differences, initial=0.0))


def exactness(replay: Replay) -> str:
    """How well the replay followed the run."""
    history = replay.history
    followed = f"old log-probabilities within {replay.off:.3g} of those recorded"
    if replay.training.steps_done < history.config.run.steps or not history.final_weights.is_dir():
        return followed
    check_manifest(history.final_weights)
    final = load_policy(str(history.final_weights), history.config.model.dtype)
    same = tensors_sha256(exported(final.model)) == tensors_sha256(exported(replay.training.policy.model))
    return f"{followed}; the weights at the end are {'the very ones' if same else 'not those'} of the run"
