"""The training loop: sample, score, filter, advantages, loss, step, record.

Left out on purpose: a value model, a reward model, an entropy bonus. None of the three losses has them.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
import transformers

from harness.batching import MicroBatch, advantages_of, plan_minibatches
from harness.chain_sum import TASKS
from harness.config import Config
from harness.environment import environment
from harness.errors import HarnessError, LockLost, Stopped
from harness.evaluation import evaluate, held_out_problems
from harness.files import is_disk_full
from harness.initial import initial_policy
from harness.lock import locked
from harness.loss_record import LossRecord, metric_names
from harness.metrics import Metrics, rollout_metrics, training_metrics
from harness.noise import checked_noise, noise_metrics
from harness.nonfinite import NonFinite, check_weights
from harness.policy import Policy
from harness.record import RunFolder, refuse_used_folder
from harness.rollouts import collect
from harness.say import say
from harness.schedule import is_due, samples_at
from harness.signals import stop_requests
from harness.trained import trained_responses
from harness.training import Training, begin
from harness.update import KnownLogprobs, known_logprobs
from harness.warmstart import Progress

OnStep = Callable[[Metrics], None]
StopRequested = Callable[[], str | None]


def train(
    config: Config, path: Path, on_step: OnStep, on_warm_start: Progress | None = None, policy: Policy | None = None
) -> RunFolder:
    """Train as the config says and record it in a new folder; `on_step` gets each step's metrics.

    `policy` is one to begin with in place of the config's model. Raises UsageError before anything is written
    where the folder is used or cannot be made, or the model cannot be had. A failure later on leaves status.json saying
    `failed` and why.
    """
    refuse_used_folder(path)
    set_up_torch(config.run.threads)
    TASKS[config.task.task].self_test()
    with stop_requests() as requested:

        def go_on(done: int = 0, total: int = 0) -> None:
            if name := requested():
                raise Stopped(f"stopped by {name} before the run began: nothing was written")
            if on_warm_start and total:
                on_warm_start(done, total)

        policy = policy or initial_policy(config, go_on)
        reference = policy.copy() if config.loss.beta > 0 else None
        settings = config.evaluation
        held_out = held_out_problems(config.task.task, settings.eval_prompts, settings.eval_split)
        surroundings = environment(policy, held_out, config.run.threads)
        go_on()
        with held(path, requested) as stop_requested:
            folder = RunFolder.create(path, config, surroundings, policy if config.model.model == "tiny" else None)
            carry_on(config, begin(config, policy, reference), folder, on_step, stop_requested)
    return folder


@contextmanager
def held(path: Path, requested: StopRequested) -> Iterator[StopRequested]:
    """The folder for this process alone; the function then raises LockLost as soon as that is known to be over."""
    with locked(path) as lost:

        def stop_requested() -> str | None:
            if reason := lost():
                raise LockLost(f"{path}: {reason}: another process may be writing there, so this one ends")
            return requested()

        yield stop_requested


def carry_on(config: Config, training: Training, folder: RunFolder, on_step: OnStep, stop: StopRequested) -> None:
    """Run the steps that are left, and say in status.json how it ended: `failed` where it would fail again."""

    def end(state: str, reason: str | None, code: int) -> None:
        folder.set_status(state, reason, code, training.steps_done)

    try:
        folder.set_status("running", None, None, training.steps_done)
        run_steps(config, training, folder, on_step, stop)
    except LockLost:
        raise
    except Stopped as stopped:
        end("preempted", str(stopped), stopped.exit_code)
        raise
    except KeyboardInterrupt:
        end("preempted", "interrupted within a step", Stopped.exit_code)
        raise
    except BaseException as error:
        if is_disk_full(error):
            with suppress(OSError):
                end("preempted", "the disk is full", 1)
            raise HarnessError(f"the disk is full: make room, then: python -m harness resume {folder.path}") from None
        end("failed", f"{type(error).__name__}: {error}", 1)
        raise
    end("finished", None, 0)


def run_steps(
    config: Config, training: Training, folder: RunFolder, on_step: OnStep, stop_requested: StopRequested
) -> None:
    """The algorithm."""
    policy, watch = training.policy, training.watch
    task, names = TASKS[config.task.task], metric_names(training.updater.loss)
    check_weights(policy)
    if training.steps_done == 0 and not folder.has_evaluation(0):
        folder.add_evaluation(evaluate(policy, config, 0, samples_at(0, config)))
    for step in range(training.steps_done, config.run.steps):
        if is_spent(config, training):
            break
        save_or_stop(config, training, folder, stop_requested())
        with watch.phase("rollout"):
            rollouts = collect(policy, task, config, step)
        with watch.phase("logprobs"):
            minibatches = plan_minibatches(rollouts.kept, policy, task, config)
            known = known_logprobs(policy, training.reference, minibatches, config.rollout.temperature)
            if training.noise is None and minibatches:
                training.noise = checked_noise(training.updater, minibatches, known)  # None where it is no number
        record = LossRecord(names)
        with watch.phase("update"):
            for _ in range(config.optimizer.epochs):
                for minibatch, logprobs in zip(minibatches, known, strict=True):
                    update(training, minibatch, logprobs, record, folder)
        training.ledger.add(rollouts, record)
        answers = []
        if is_spent(config, training) or is_due(step + 1, config):
            with watch.phase("evaluation"):
                answers = evaluate(policy, config, step + 1, samples_after(step + 1, config, training))
        with watch.phase("record"):
            if answers:
                folder.add_evaluation(answers)
            if config.run.record_rollouts == "all":
                trained = trained_responses(minibatches, known, advantages_of(rollouts.kept, config))
                folder.add_step(step, rollouts, record, trained, policy)
        metrics: Metrics = {"step": step} | rollout_metrics(rollouts) | training_metrics(minibatches, record)
        metrics |= noise_metrics(training.noise, names) | training.ledger.metrics() | watch.lap()
        with watch.phase("record"):
            folder.add_metrics(metrics)
        training.steps_done = step + 1
        on_step(metrics)
    stop_requested()  # raises where the folder is no longer ours
    folder.add_final_weights(policy)


def is_spent(config: Config, training: Training) -> bool:
    """Whether the token budget, if there is one, has been generated."""
    budget = config.run.token_budget
    return budget is not None and training.ledger.generated_tokens >= budget


def samples_after(step: int, config: Config, training: Training) -> int:
    """Answers per prompt at the evaluation after `step` steps, which the token budget may have made the last."""
    return config.evaluation.final_eval_samples if is_spent(config, training) else samples_at(step, config)


def update(
    training: Training, minibatch: list[MicroBatch], known: list[KnownLogprobs], record: LossRecord, folder: RunFolder
) -> None:
    """One optimizer step; where it would not be finite none, but the batch is kept and the run fails, or skips it."""
    allowed = training.updater.config.optimizer.skip_nonfinite
    try:
        training.updater.step(minibatch, known, record)
    except NonFinite as fault:
        number = len(record.gradient_norms) + record.skipped - fault.is_stepped
        kept = folder.add_nonfinite(training.steps_done, number, fault, minibatch)
        record.skipped += 1
        said = f"step {training.steps_done}: {fault}; its batch is in {kept}"
        skipped = training.ledger.skipped_updates + record.skipped
        if fault.is_stepped:
            raise HarnessError(f"{said}; lower --lr") from None
        if skipped > allowed:
            raise HarnessError(f"{said}; lower --lr, or let such updates be skipped with --skip_nonfinite N") from None
        say(f"note: {said}: skipped, {skipped} of {allowed} allowed")


def save_or_stop(config: Config, training: Training, folder: RunFolder, stop: str | None) -> None:
    """At a step boundary: a checkpoint where one is due, or where somebody asked to stop; then Stopped."""
    done = training.steps_done
    is_due = done > 0 and done % config.run.checkpoint_every == 0
    if is_due or stop:
        with training.watch.phase("record"):
            folder.add_checkpoint(training)
    if stop:
        raise Stopped(
            f"stopped by {stop} after {done} of {config.run.steps} steps; go on with: "
            f"python -m harness resume {folder.path}"
        )


def set_up_torch(threads: int) -> None:
    """The thread count, and kernels that give the same bits every time."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # only finds bugs, slowly
    keep_freed_memory()
    transformers.utils.logging.disable_progress_bar()


def keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks: else every large tensor of a CPU step is mapped and zeroed anew by the kernel."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 2**31 - 1)
