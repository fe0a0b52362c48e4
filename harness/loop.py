"""The training loop: sample, score, filter, advantages, loss, step, record.

Left out on purpose: a value model, a reward model, an entropy bonus. None of the three losses has them.
"""

import ctypes
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
import transformers

from harness.batching import plan_minibatches
from harness.chain_sum import TASKS
from harness.config import Config
from harness.environment import environment
from harness.errors import Stopped
from harness.evaluation import evaluate, held_out_problems, is_due, samples_at
from harness.metrics import Ledger, Metrics, Stopwatch, rollout_metrics, training_metrics
from harness.noise import Noise, checked_noise, noise_metrics
from harness.policy import Policy, load_policy
from harness.record import RunFolder, refuse_used_folder
from harness.rollouts import collect
from harness.update import LossRecord, Updater, known_logprobs, make_optimizer, metric_names
from harness.warmstart import Progress, tiny_model_folder
from losses import LOSSES

OnStep = Callable[[Metrics], None]


def train(config: Config, path: Path, on_step: OnStep, on_warm_start: Progress | None = None) -> RunFolder:
    """Train as the config says and record it in a new folder; `on_step` gets each step's metrics.

    Raises UsageError before anything is written where the folder is used or cannot be made, or the model cannot be
    had. A failure later on leaves status.json saying `failed` and why.
    """
    refuse_used_folder(path)
    set_up_torch(config.run.threads)
    policy = initial_policy(config, on_warm_start)
    held_out = held_out_problems(config.task.task, config.evaluation.eval_prompts)
    folder = RunFolder.create(path, config, environment(policy, held_out, config.run.threads))
    steps_done = 0

    def count(metrics: Metrics) -> None:
        nonlocal steps_done
        steps_done += 1
        on_step(metrics)

    try:
        with stop_requests() as requested:
            run_steps(config, policy, folder, count, requested)
    except Stopped as stop:
        folder.set_status("preempted", str(stop), stop.exit_code, steps_done)
        raise
    except KeyboardInterrupt:
        folder.set_status("preempted", "interrupted within a step", Stopped.exit_code, steps_done)
        raise
    except BaseException as error:
        folder.set_status("failed", f"{type(error).__name__}: {error}", 1, steps_done)
        raise
    folder.set_status("finished", None, 0, steps_done)
    return folder


def run_steps(
    config: Config, policy: Policy, folder: RunFolder, on_step: OnStep, stop_requested: Callable[[], str | None]
) -> None:
    """The algorithm."""
    task, watch = TASKS[config.task.task], Stopwatch()
    reference = initial_policy(config) if config.loss.beta > 0 else None
    updater = make_updater(config, policy)
    loss_metrics = metric_names(updater.loss)
    ledger = make_ledger(config, policy)
    noise: Noise | None = None
    folder.add_evaluation(evaluate(policy, config, 0, samples_at(0, config)))
    for step in range(config.run.steps):
        if signal_name := stop_requested():
            raise Stopped(f"stopped by {signal_name} after {step} of {config.run.steps} steps")
        with watch.phase("rollout"):
            rollouts = collect(policy, task, config, step)
        with watch.phase("logprobs"):
            minibatches = plan_minibatches(rollouts.kept, policy, task, config)
            known = known_logprobs(policy, reference, minibatches, config.rollout.temperature)
            if noise is None and minibatches:
                noise = checked_noise(updater, minibatches, known)
        record = LossRecord(loss_metrics)
        with watch.phase("update"):
            for _ in range(config.optimizer.epochs):
                for minibatch, logprobs in zip(minibatches, known, strict=True):
                    updater.step(minibatch, logprobs, record)
        ledger.add(rollouts, record)
        with watch.phase("evaluation"):
            if is_due(step + 1, config):
                folder.add_evaluation(evaluate(policy, config, step + 1, samples_at(step + 1, config)))
        if config.run.record_rollouts == "all":
            folder.add_rollouts(step, rollouts, record, config)
            if record.latest:
                folder.add_tokens(step, *record.latest, policy)
        metrics: Metrics = {"step": step} | rollout_metrics(rollouts) | training_metrics(minibatches, record)
        metrics |= noise_metrics(noise, loss_metrics) | ledger.metrics() | watch.lap()
        folder.add_metrics(metrics)
        on_step(metrics)
    folder.save_weights(policy)


def initial_policy(config: Config, on_warm_start: Progress | None = None) -> Policy:
    """The policy before training."""
    model = config.model.model
    if model == "tiny":
        model = str(tiny_model_folder(config.task.task, config.model.model_seed, config.run.threads, on_warm_start))
    return load_policy(model, config.model.dtype)


def make_updater(config: Config, policy: Policy) -> Updater:
    """Loss, optimizer and schedule as the config says."""
    loss = LOSSES[config.loss.loss_type](**config.loss.loss_fields())
    optimizer, schedule = make_optimizer(policy, config.optimizer, config.updates_per_rollout)
    return Updater(policy, loss, optimizer, schedule, config)


def make_ledger(config: Config, policy: Policy) -> Ledger:
    """A ledger that knows what the config's steps compute."""
    epochs = config.optimizer.epochs
    forwards = 1 + (config.loss.beta > 0) + (epochs if config.loss.sequence_filter else 0)
    return Ledger(sum(p.numel() for p in policy.model.parameters()), epochs, forwards)


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


@contextmanager
def stop_requests() -> Iterator[Callable[[], str | None]]:
    """A function that names the first signal to stop (SIGINT, SIGTERM) that has come, or None."""
    received: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt  # the second one does not wait for the step to end
        received.append(signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
