"""Applies another loss to the batches and weights of a recorded run.

The run's updates are repeated from its stored rollouts. At each update both losses see the same policy, responses and
old log-probabilities; the other loss's gradient is measured but not applied.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.nonfinite import NonFinite
from harness.algorithm.state import make_loss
from harness.algorithm.update import KnownLogprobs, Updater
from harness.compare.repeat import Repeat, begin_repeat, check_rollouts, exactness, in_this_process
from harness.config.resolve import tree_of
from harness.config.schema import Config
from harness.console import say
from harness.files import Journal, write_json
from harness.run.history import History
from harness.run.record import make_folder, refuse_used_folder

Line = dict[str, Any]


def replay_run(history: History, other: Config, steps: range, out: Path) -> Iterator[list[Line]]:
    """Yield each step's lines, one per update, and write them to `out`/replay.jsonl; at the end says how exact it was.

    Starts at the newest checkpoint before the first step, or at the initial weights. Raises UsageError if those are not
    available or the rollouts of a step are not stored.
    """
    refuse_used_folder(out)
    other = in_this_process(other)
    repeat = begin_repeat(history, steps.start, other.loss.needs_reference)
    check_rollouts(history, range(repeat.training.steps_done, steps.stop))
    make_folder(out)
    settings = {"own": tree_of(history.config), "other": tree_of(other)}
    write_json(out / "replay.json", {"run": str(history.path.absolute()), **settings})
    journal = Journal(out / "replay.jsonl")
    while repeat.training.steps_done < steps.stop:
        lines = list(replay_step(repeat, Updater(repeat.training.updater.backend, make_loss(other), other)))
        if repeat.training.steps_done > steps.start:
            for line in lines:
                finite = {key: value if value is None or math.isfinite(value) else None for key, value in line.items()}
                journal.append(json.dumps(finite, allow_nan=False))
            yield lines
    say(exactness(repeat))


def replay_step(repeat: Repeat, other: Updater) -> Iterator[Line]:
    """Repeat the updates of the run's next step; yield a line for each."""
    training, own, step = repeat.training, repeat.training.updater, repeat.next_step()
    others = plan_minibatches(step.groups, training.policy, training.task, other.config)
    for number, index in step.updates(repeat.config.optimizer.epochs):
        logprobs = step.known[index]
        measured = measure(other, others[index], logprobs)
        direction = [p.grad.clone() for p in training.policy.model.parameters() if p.grad is not None]
        gradient, record = own.gradient(step.minibatches[index], logprobs), LossRecord(metric_names(own.loss))
        cosine = cosine_of(direction, [p.grad for p in training.policy.model.parameters() if p.grad is not None])
        try:
            own.apply(gradient, step.minibatches[index], record)
        except NonFinite:
            continue  # no step is taken, as in the run
        yield {
            "step": step.number,
            "update": number,
            "cosine": cosine,
            "norm": float(gradient.norm),
            "other_norm": measured.gradient_norms[0],
            **{f"own/{name}": value for name, value in record.means().items()},
            **{f"other/{name}": value for name, value in measured.means().items()},
        }
    training.steps_done = step.number + 1


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
