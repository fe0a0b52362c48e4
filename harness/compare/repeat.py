"""Repeats a recorded run, all of it or its updates from stored rollouts, in this process and with torch's engine."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.metrics import Metrics
from harness.algorithm.nonfinite import NonFinite
from harness.algorithm.state import Training
from harness.algorithm.update import KnownLogprobs, StepUpdates, known_logprobs
from harness.backends.torch_setup import set_up_torch
from harness.compare.divergence import first_divergence, shown
from harness.config.scale import BackendSettings
from harness.config.schema import Config
from harness.console import say
from harness.errors import GaveUp, Stopped, UsageError
from harness.files import Mark
from harness.loop import Beginning, OnStep, ranks_of, train
from harness.model.lora import exported
from harness.model.policy import load_policy
from harness.rollouts.collect import Group, Response, problems_of
from harness.run.checkpoint import newest_training, save_state
from harness.run.environment import FINGERPRINT, differences_here, explanation, tensors_sha256
from harness.run.folder import check_manifest
from harness.run.history import History, Row, read_history
from harness.run.initial_model import recorded_initial_policy
from harness.run.record import refuse_used_folder
from harness.tasks.own_files import recorded_code
from harness.tasks.task import Grade, Problem

NOWHERE = Mark(0, "")  # a checkpoint of its own belongs to no journal
NEEDED = {  # columns of the rollouts, which older versions recorded in part
    *("step", "round", "prompt_id", "sample", "prompt", "target", "text", "tokens", "old_logprobs", "truncated"),
    *("outcome", "why", "reward", "trained"),
}


@dataclass(frozen=True)
class Step:
    """The batch of one step of the run, as it was before the step's first update."""

    number: int
    groups: list[Group]
    minibatches: list[list[MicroBatch]]
    known: list[list[KnownLogprobs]]

    def updates(self, epochs: int) -> Iterator[tuple[int, int]]:
        """The step's updates, each as (its number within the step, the index of its minibatch)."""
        return ((number, number % len(self.minibatches)) for number in range(epochs * len(self.minibatches)))


@dataclass
class Repeat:
    """A run that is being repeated."""

    history: History
    training: Training
    off: float = 0.0  # largest difference from the recorded old log-probabilities; 0 for an exact repetition

    @property
    def config(self) -> Config:
        return self.training.updater.config

    def next_step(self) -> Step:
        """The run's next step, before its first update."""
        training, updater = self.training, self.training.updater
        rows = trained_rows(self.history, training.steps_done)
        seen, keyed = set[str](), training.first_step + training.steps_done
        for number in range(1 + max((row["round"] for row in rows), default=-1)):  # a drawn task must know its problems
            problems_of(training.sampler_context(self.config), keyed, number, seen)
        groups = groups_of(rows, training)
        minibatches = plan_minibatches(groups, training.policy, training.task, self.config)
        temperature = self.config.rollout.temperature
        known = known_logprobs(updater.backend, training.reference, minibatches, temperature)
        self.off = float(np.max([self.off, distance(rows, minibatches, known)]))  # unlike max, np.max propagates NaN
        return Step(training.steps_done, groups, minibatches, known)

    def update(self, step: Step, index: int) -> None:
        """Take the run's own update on a minibatch; none where the run took none."""
        own = self.training.updater
        with suppress(NonFinite):
            own.step(step.minibatches[index], step.known[index], LossRecord(metric_names(own.loss)))

    def advance(self) -> None:
        """Take all updates of the next step."""
        step = self.next_step()
        for _, index in step.updates(self.config.optimizer.epochs):
            self.update(step, index)
        self.training.steps_done += 1


def begin_repeat(history: History, first_step: int) -> Repeat:
    """The run at the newest usable checkpoint of at most `first_step` steps, or at its start."""
    engine = history.config.engine.model_copy(update={"engine": "torch"})
    here = history.config.model_copy(update={"backend": BackendSettings(), "engine": engine})
    history = replace(history, config=here)
    reference = recorded_initial_policy(history) if history.config.loss.needs_reference else None
    with recorded_code(history.path):
        return Repeat(history, newest_training(history, reference, until=first_step)[0])


def write_checkpoint(history: History, step: int, out: Path) -> str:
    """Write the run's state after `step` steps as a folder for --start_from, and return how exact it is.

    Updates since the newest checkpoint are repeated. Raises UsageError if it cannot be reached or `out` is in use.
    """
    refuse_used_folder(out)
    history.check_reachable(step)
    repeat = begin_repeat(history, step)
    history.check_rollouts(range(repeat.training.steps_done, step))
    repeated = step - repeat.training.steps_done
    for _ in range(repeated):
        repeat.advance()
    save_state(out, repeat.training, NOWHERE, NOWHERE)
    return f"{repeated} of {step} steps repeated, {exactness(repeat)}"


def exactness(repeat: Repeat) -> str:
    """A phrase that says how closely the repetition followed the run."""
    history = repeat.history
    followed = f"old log-probabilities within {repeat.off:.3g} of those recorded"
    if repeat.off:
        followed += explanation(differences_here(history.environment, repeat.config))
    if repeat.training.steps_done < history.config.run.steps or not history.final_weights.is_dir():
        return followed
    check_manifest(history.final_weights)
    final = load_policy(str(history.final_weights), history.config.model.dtype)
    same = tensors_sha256(exported(final.model)) == tensors_sha256(exported(repeat.training.policy.model))
    return f"{followed}; the final weights are {'identical to' if same else 'not'} those of the run"


def distance(rows: Sequence[Row], minibatches: list[list[MicroBatch]], known: list[list[KnownLogprobs]]) -> float:
    """The largest difference between recorded and recomputed old log-probabilities."""
    again = StepUpdates(minibatches, known, LossRecord(())).trained()
    differences = [
        abs(ours - theirs)
        for row in rows
        for ours, theirs in zip(again[row["prompt_id"], row["sample"]].old_logprobs, row["old_logprobs"], strict=True)
    ]
    return float(np.max(differences, initial=0.0))


def trained_rows(history: History, step: int) -> list[Row]:
    """The rows of the responses that a step trained on, in the order of their prompts.

    Raises UsageError if an older version recorded them without a column of NEEDED.
    """
    rows = history.table("rollouts", step) or []
    if rows and (missing := NEEDED - rows[0].keys()):
        raise UsageError(
            f"{history.path}: expected rollouts with {', '.join(sorted(missing))}, got those of an older version: "
            "use a run of this version"
        )
    return [row for row in rows if row["trained"]]


def groups_of(rows: Sequence[Row], training: Training) -> list[Group]:
    """The responses, grouped by prompt. Scores and entropies are not recorded, so they are NaN."""
    responses = [
        Response(
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
        for row in rows
    ]
    return [list(group) for _, group in groupby(responses, key=lambda one: one.problem.prompt_id)]


class FarEnough(Stopped):
    """All steps to be compared are done."""


def reproduce(run: History, out: Path, until: int, on_step: OnStep) -> str | None:
    """Repeat the run's first `until` steps in `out`; returns the first difference from the recorded ones, or None.

    Prints differences of the environment first. Raises UsageError if the initial weights are not available.
    """
    ranks = ranks_of(run.config)
    differences = differences_here(run.environment, run.config, ranks.world)
    for name, (then, now) in differences.items():
        say(f"{name}: {shown(then)} in the run, {shown(now)} here")
    if any(name in differences for name in FINGERPRINT):
        say("so results may differ here in the last bits, and a single flipped token changes everything after it")
    set_up_torch(run.config.run.threads)
    policy = recorded_initial_policy(run)

    def stop_there(metrics: Metrics) -> None:
        on_step(metrics)
        if metrics["step"] == until - 1 and until < run.config.run.steps:
            raise FarEnough(f"stopped after the {until} steps that are compared")

    try:
        with recorded_code(run.path):
            train(run.config, out, stop_there, beginning=Beginning(policy, run.environment))
    except (FarEnough, GaveUp) as stop:
        say(str(stop))
    return first_divergence(run, read_history(out)) if ranks.is_first else None


def comparable_steps(run: History, asked: int | None) -> int:
    """How many steps to compare. Raises UsageError if the run has done none, or fewer than asked for."""
    if run.steps_done == 0 or (asked is not None and not 0 < asked <= run.steps_done):
        raise UsageError(
            f"--steps: expected 1 to the {run.steps_done} steps that {run.path} has done, got {asked}: "
            "name a run with at least one step, or fewer steps"
        )
    return asked or run.steps_done
