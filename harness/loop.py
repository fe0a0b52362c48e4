"""The training loop: sample, score, filter, advantages, loss, step, record.

Left out on purpose: a value model, a reward model, an entropy bonus. None of the losses has them.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.algorithm.batching import MicroBatch, plan_minibatches
from harness.algorithm.correction import check_sampler_agrees
from harness.algorithm.learning import give_up_if_idle, track_learning
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.metrics import Metrics, rollout_metrics, training_metrics
from harness.algorithm.noise import checked_noise, noise_metrics
from harness.algorithm.nonfinite import NonFinite, check_weights
from harness.algorithm.state import Training, check_task, make_task, on_gpu
from harness.algorithm.sync import sync
from harness.algorithm.update import KnownLogprobs, StepUpdates, known_logprobs
from harness.backends.deepspeed_backend import deepspeed_settings
from harness.backends.phases import LAUNCHER, own
from harness.backends.ranks import ALONE, Ranks, join_ranks, peer_lost
from harness.backends.signals import stop_requests
from harness.backends.torch_setup import set_up_torch
from harness.config.schedule import samples_at
from harness.config.schema import Config
from harness.console import command, output, say
from harness.errors import (
    INTERRUPTED,
    MEMORY_ADVICE,
    DiskFull,
    Diverged,
    HarnessError,
    LockLost,
    OutOfMemory,
    PeerLost,
    Stopped,
    before_start,
    first_line,
    is_out_of_memory,
)
from harness.files import is_disk_full
from harness.model.policy import Policy
from harness.rollouts.collect import Group, collect
from harness.rollouts.held_out import evaluate
from harness.run.checkpoint import begin_run
from harness.run.environment import check_origins, environment
from harness.run.initial_model import initial_policy, start_facts
from harness.run.lock import StopRequested, locked
from harness.run.record import NullRunFolder, RunFolder, refuse_used_folder
from harness.run.tiny_model import Progress
from harness.tasks.math.task import data_lines, read_data
from harness.tasks.own_files import own_code_hashes
from harness.tasks.rewards import rewards_of
from harness.tasks.task import Problem, Task

OnStep = Callable[[Metrics], None]


@dataclass(frozen=True)
class Beginning:
    """A recorded run's model and environment, to start from instead of the config's model."""

    policy: Policy
    environment: Mapping[str, Any] = field(default_factory=dict)


def train(
    config: Config,
    path: Path,
    on_step: OnStep,
    on_warm_start: Progress | None = None,
    beginning: Beginning | None = None,
) -> RunFolder:
    """Train as the config says and record the run in a new folder; `on_step` receives each step's metrics.

    Raises UsageError before anything is written if the folder is in use or cannot be created, the model cannot be
    loaded, or the prompts differ from those of `beginning`. A later failure leaves its reason in status.json.
    """
    output.begin()
    ranks = ranks_of(config)
    if ranks.is_first:
        refuse_used_folder(path)
    set_up_torch(config.run.threads)
    check_task(config)
    data = read_data(config.data) if config.task.task == "math" else None
    with stop_requests() as requested, ExitStack() as stack:

        def go_on(done: int = 0, total: int = 0) -> None:  # 0 of 0: the run begins
            if name := requested():
                raise Stopped(f"stopped by {name} before the run began: nothing was written")
            if on_warm_start:
                on_warm_start(done, total)

        policy = beginning.policy if beginning else initial_policy(config, go_on)
        reference = policy.copy() if config.loss.needs_reference else None
        task = stack.enter_context(closing(make_task(config, policy, data)))
        held_out = tried(task, config)
        for line in data_lines(task.facts) if ranks.is_first else ():
            say(line)
        surroundings = environment(policy, held_out, config, ranks.world)
        surroundings |= {**task.facts, **own_code_hashes(config), **start_facts(config)}
        check_origins(surroundings, ranks, beginning.environment if beginning else {})
        if config.backend.backend == "deepspeed":
            surroundings["deepspeed"] = deepspeed_settings(config, is_gpu=on_gpu(config))
        go_on()
        with locked(path, requested, ranks) as stop_requested:
            initial = policy if config.model.model == "tiny" else None
            folder = RunFolder.create(path, config, surroundings, initial) if ranks.is_first else NullRunFolder(path)
            carry_on(config, begin_run(config, policy, reference, ranks, task), folder, on_step, stop_requested)
    return folder


def tried(task: Task, config: Config) -> tuple[Problem, ...]:
    """The task's held-out problems. Raises UsageError unless the task and the user's rewards can be used on them."""
    with before_start():
        task.self_test()
        held_out = task.held_out(config.evaluation.eval_split, config.evaluation.eval_prompts)
        rewards_of(config.task.reward).try_out(held_out[0])
    return held_out


def ranks_of(config: Config) -> Ranks:
    """The group of ranks that this process was started in, which it joins; a single rank under --backend torch."""
    settings = config.backend
    return ALONE if settings.backend == "torch" else join_ranks(settings.phase_deadline_s, on_gpu(config))


def carry_on(config: Config, training: Training, folder: RunFolder, on_step: OnStep, stop: StopRequested) -> None:
    """Run the remaining steps and record in status.json how the run ended.

    The state is `preempted` if the run can be resumed and `failed` if it would probably fail again.
    """
    try:
        folder.set_status("running", None, None, training.steps_done)
        run_steps(config, training, folder, on_step, stop)
    except LockLost:
        raise
    except BaseException as error:
        state, reason, raised = ending(error, folder.path)
        known = raised if isinstance(raised, HarnessError) else HarnessError()
        if not (isinstance(raised, PeerLost) and LAUNCHER in os.environ):  # else the launcher knows which rank failed
            with suppress(OSError):
                folder.set_status(state, reason, known.exit_code, training.steps_done, known.code)
        if raised is error:
            raise
        raise raised from None
    finally:
        training.engine.close()
        training.task.close()
    folder.set_status("finished", None, 0, training.steps_done, "finished")


def ending(error: BaseException, path: Path) -> tuple[str, str, BaseException]:
    """How an error ends a run: the state and reason for status.json, and the error to raise."""
    resuming = command("harness", "resume", path)
    if lost := peer_lost(error):
        return "preempted", str(lost), lost
    if isinstance(error, Stopped):
        return "preempted", str(error), error
    if isinstance(error, KeyboardInterrupt):
        return "preempted", INTERRUPTED, Stopped(f"{INTERRUPTED}; resume with: {resuming}")
    if is_disk_full(error):
        return "preempted", "the disk is full", DiskFull(f"the disk is full: make room, then: {resuming}")
    if is_out_of_memory(error):
        reason = f"out of memory in phase {own.phase} ({first_line(error)})"
        return "failed", reason, OutOfMemory(f"{reason}: {MEMORY_ADVICE}")
    return "failed", f"{type(error).__name__}: {error}", error


def run_steps(
    config: Config, training: Training, folder: RunFolder, on_step: OnStep, stop_requested: StopRequested
) -> None:
    """Run the remaining steps. Every rank calls this on its share of the work; only the first writes the folder."""
    engine, ranks = training.engine, training.ranks
    folder.keeps_sampler_logprobs = engine.needs_weights
    check_weights(training.updater.backend)
    with training.watch.phase("sync"):
        sync(training, config)
    if training.steps_done == 0 and not ranks.gather(folder.has_evaluation(0), bool)[0]:
        output.part = "evaluation before training"
        with training.watch.phase("evaluation"):
            folder.add_evaluation(evaluate(training.sampler_context(config), 0, samples_at(0, config)))
    for _ in range(training.steps_done, config.run.steps):
        if is_spent(config, training):
            break
        save_or_stop(config, training, folder, ranks.first_message(stop_requested()))
        metrics = run_step(config, training, folder)
        with training.watch.phase("record"):
            folder.add_metrics(metrics)
        training.steps_done += 1
        on_step(metrics)
        give_up_if_idle(training, config)
    stop_requested()  # raises if the lock was lost
    with training.watch.phase("record"):
        folder.add_final_weights(training)


def run_step(config: Config, training: Training, folder: RunFolder) -> Metrics:
    """One step of the algorithm: sample, score, filter, update, synchronize, evaluate, record."""
    watch, engine, ranks, step = training.watch, training.engine, training.ranks, training.steps_done
    output.part = f"step {step + 1}/{config.run.steps}"
    with watch.phase("rollout"):
        rollouts = collect(training.sampler_context(config), step)
        engine.sleep()
    track_learning(training, rollouts, config)
    updates = train_on(rollouts.kept, config, training)
    with watch.phase("sync"):
        gap = sync(training, config)
    record, sampled = updates.record.merged(ranks), updates.sampler_gap().merged(ranks)
    training.ledger.add(rollouts, record)
    answers, is_last = [], is_spent(config, training)
    if samples := config.evaluation.final_eval_samples if is_last else samples_at(step + 1, config):
        output.part = f"evaluation after step {step + 1}/{config.run.steps}"
        with watch.phase("evaluation"):
            answers = evaluate(training.sampler_context(config), step + 1, samples)
    with watch.phase("record"):
        if answers:
            folder.add_evaluation(answers)
        if config.run.record_rollouts == "all":
            folder.add_step(step, rollouts, record, updates.trained(ranks), training.policy)
    metrics: Metrics = {"step": step} | rollout_metrics(rollouts, training.task)
    metrics |= training_metrics(sampled, record, config.optimizer.grad_clip)
    metrics |= noise_metrics(training.noise, list(record.names))
    metrics |= {"sync/logprob_gap": gap} if engine.needs_weights else {}
    return metrics | training.ledger.metrics() | watch.lap()


def train_on(groups: list[Group], config: Config, training: Training) -> StepUpdates:
    """Compute old log-probabilities once, then take every optimizer step of every epoch."""
    updater, watch = training.updater, training.watch
    with watch.phase("logprobs"):
        minibatches = plan_minibatches(groups, training.policy, training.task, config, updater.backend.ranks)
        temperature, is_exact = config.rollout.temperature, training.is_exact
        known = known_logprobs(updater.backend, training.reference, minibatches, temperature, is_exact)
        if training.noise is None and minibatches:
            training.noise = checked_noise(updater, minibatches, known)  # None if it is NaN
        updates = StepUpdates(minibatches, known, LossRecord(metric_names(updater.loss)))
        if not training.sampler_checked:
            training.sampler_checked = check_sampler_agrees(updates.sampler_gap().merged(training.ranks), config)
    step = output.part
    with watch.phase("update"):
        for epoch in range(config.optimizer.epochs):
            for number, (minibatch, logprobs) in enumerate(zip(minibatches, known, strict=True), start=1):
                output.part = f"{step}, update {epoch * len(minibatches) + number} of {config.updates_per_rollout}"
                update(training, minibatch, logprobs, updates.record)
    return updates


def is_spent(config: Config, training: Training) -> bool:
    """Whether the token budget, if any, is used up."""
    budget = config.run.token_budget
    return budget is not None and training.ledger.generated_tokens >= budget


def update(training: Training, minibatch: list[MicroBatch], known: list[KnownLogprobs], record: LossRecord) -> None:
    """One optimizer step. If something is not finite, skip the step or raise Diverged."""
    allowed = training.updater.config.optimizer.skip_nonfinite
    try:
        training.updater.step(minibatch, known, record)
    except NonFinite as fault:
        record.skipped += 1
        said = f"step {training.steps_done}: {fault}"
        skipped = training.ledger.skipped_updates + record.skipped
        if fault.is_stepped:
            raise Diverged(f"{said}; lower --lr") from None
        if skipped > allowed:
            raise Diverged(f"{said}; lower --lr, or let such updates be skipped with --skip_nonfinite N") from None
        say(f"note: {said}: skipped, {skipped} of {allowed} allowed")


def save_or_stop(config: Config, training: Training, folder: RunFolder, stop: str | None) -> None:
    """At a step boundary, save a checkpoint if one is due or a stop was requested; raise Stopped in the latter case."""
    done = training.steps_done
    is_due = done > 0 and done % config.run.checkpoint_every == 0
    if is_due or stop:
        with training.watch.phase("record"):
            folder.add_checkpoint(training)
    if stop:
        training.ranks.wait()  # the first rank to exit ends the others, which may still be writing
        going_on = command("harness", "resume", folder.path)
        raise Stopped(f"stopped by {stop} after {done} of {config.run.steps} steps; resume with: {going_on}")
