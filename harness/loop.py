"""The training loop: sample, score, filter, advantages, loss, step, record.

Left out on purpose: a value model, a reward model, an entropy bonus. None of the three losses has them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.algorithm.batching import MicroBatch, keyed_advantages, plan_minibatches
from harness.algorithm.correction import check_sampler_agrees
from harness.algorithm.learning import give_up_if_idle, track_learning
from harness.algorithm.loss_metrics import LossRecord, metric_names
from harness.algorithm.metrics import Metrics, rollout_metrics, training_metrics
from harness.algorithm.noise import checked_noise, noise_metrics
from harness.algorithm.nonfinite import NonFinite, check_weights
from harness.algorithm.state import Training, begin, on_gpu
from harness.algorithm.sync import sync
from harness.algorithm.trained import trained_responses
from harness.algorithm.update import KnownLogprobs, known_logprobs
from harness.algorithm.work import Work
from harness.backends.deepspeed_backend import deepspeed_settings
from harness.backends.phases import enter, own
from harness.backends.ranks import ALONE, Ranks, is_peer_lost, join_ranks
from harness.backends.signals import stop_requests
from harness.backends.torch_setup import set_up_torch
from harness.config.schedule import is_due, samples_at
from harness.config.schema import Config
from harness.console import say
from harness.errors import HarnessError, LockLost, PeerLost, Stopped, UsageError, first_line
from harness.files import is_disk_full
from harness.memory import ADVICE, is_out_of_memory
from harness.model.policy import Policy
from harness.rollouts.collect import Group, collect
from harness.rollouts.held_out import evaluate
from harness.run.environment import check_origins, environment
from harness.run.initial_model import initial_policy
from harness.run.lock import locked
from harness.run.record import Onlooker, RunFolder, refuse_used_folder
from harness.run.tiny_model import Progress
from harness.tasks.math.data import data_lines, read_data
from harness.tasks.registry import make_task

OnStep = Callable[[Metrics], None]
StopRequested = Callable[[], str | None]


@dataclass(frozen=True)
class Beginning:
    """What a run begins with in place of its config's model: a recorded run's, whose prompts it must find again."""

    policy: Policy
    environment: Mapping[str, Any] = field(default_factory=dict)


def train(
    config: Config,
    path: Path,
    on_step: OnStep,
    on_warm_start: Progress | None = None,
    beginning: Beginning | None = None,
) -> RunFolder:
    """Train as the config says and record it in a new folder; `on_step` gets each step's metrics.

    Raises UsageError before anything is written where the folder is used or cannot be made, the model cannot be had, or
    the prompts are not those of the `beginning`. A failure later on leaves status.json saying `failed` and why.
    """
    ranks = ranks_of(config)
    if ranks.is_first:
        refuse_used_folder(path)
    set_up_torch(config.run.threads)
    if config.task.task == "math" and config.model.model == "tiny":
        raise UsageError("--task math needs --model, got 'tiny', which knows its own tasks alone: name a model")
    data = read_data(config.data) if config.task.task == "math" else None
    with stop_requests() as requested, ExitStack() as stack:

        def go_on(done: int = 0, total: int = 0) -> None:
            if name := requested():
                raise Stopped(f"stopped by {name} before the run began: nothing was written")
            if on_warm_start and total:
                on_warm_start(done, total)

        policy = beginning.policy if beginning else initial_policy(config, go_on)
        reference = policy.copy() if config.loss.beta > 0 else None
        settings = config.evaluation
        task = stack.enter_context(closing(make_task(config, policy, data)))
        task.self_test()
        for line in data_lines(task.facts) if ranks.is_first else ():
            say(line)
        held_out = task.held_out(settings.eval_split, settings.eval_prompts)
        surroundings = environment(policy, held_out, config.run.threads, ranks.world) | dict(task.facts)
        check_origins(surroundings, ranks, beginning.environment if beginning else {})
        if config.backend.backend == "deepspeed":
            surroundings["deepspeed"] = deepspeed_settings(config, is_gpu=on_gpu(config))
        go_on()
        with held(path, requested, ranks) as stop_requested:
            initial = policy if config.model.model == "tiny" else None
            folder = RunFolder.create(path, config, surroundings, initial) if ranks.is_first else Onlooker(path)
            carry_on(config, begin(config, policy, reference, ranks, task), folder, on_step, stop_requested)
    return folder


def ranks_of(config: Config) -> Ranks:
    """This process alone, or among those that were started with it."""
    return ALONE if config.backend.backend == "torch" else join_ranks(config.backend.phase_deadline_s)


@contextmanager
def held(path: Path, requested: StopRequested, ranks: Ranks = ALONE) -> Iterator[StopRequested]:
    """The folder for this run alone; the function then raises LockLost as soon as that is known to be over.

    The first rank holds it for all.
    """
    if not ranks.is_first:
        yield requested
        return
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
    except (LockLost, PeerLost):  # the launcher knows whose fault that is, and writes it down
        raise
    except Stopped as stopped:
        end("preempted", str(stopped), stopped.exit_code)
        raise
    except KeyboardInterrupt:
        end("preempted", "interrupted within a step", Stopped.exit_code)
        raise
    except BaseException as error:
        if is_peer_lost(error):  # in a collective of DeepSpeed's
            raise PeerLost(f"another rank is gone: {first_line(error)}") from None
        if is_out_of_memory(error):
            said = f"out of memory in phase {own.phase} ({first_line(error)})"
            end("failed", said, 1)
            raise HarnessError(f"{said}: {ADVICE}") from None
        if is_disk_full(error):
            with suppress(OSError):
                end("preempted", "the disk is full", 1)
            raise HarnessError(f"the disk is full: make room, then: python -m harness resume {folder.path}") from None
        end("failed", f"{type(error).__name__}: {error}", 1)
        raise
    finally:
        training.actors.engine.close()
        training.task.close()
    end("finished", None, 0)


def run_steps(
    config: Config, training: Training, folder: RunFolder, on_step: OnStep, stop_requested: StopRequested
) -> None:
    """The steps that are left. Every rank does the same: each has its share, and the first writes it all down."""
    actors = training.actors
    folder.keeps_sampler_logprobs = actors.engine.needs_weights
    check_weights(training.updater.backend)
    with training.watch.phase("sync"):
        sync(training, config)
    if training.steps_done == 0 and not actors.ranks.gather(folder.has_evaluation(0), bool)[0]:
        enter("evaluation")
        folder.add_evaluation(evaluate(training.asking(config), 0, samples_at(0, config)))
    for _ in range(training.steps_done, config.run.steps):
        if is_spent(config, training):
            break
        save_or_stop(config, training, folder, actors.ranks.first_message(stop_requested()))
        metrics = run_step(config, training, folder)
        with training.watch.phase("record"):
            folder.add_metrics(metrics)
        training.steps_done += 1
        on_step(metrics)
        give_up_if_idle(training, config)
    stop_requested()  # raises where the folder is no longer ours
    with training.watch.phase("record"):
        folder.add_final_weights(training)


def run_step(config: Config, training: Training, folder: RunFolder) -> Metrics:
    """The algorithm."""
    policy, watch, actors, step = training.policy, training.watch, training.actors, training.steps_done
    with watch.phase("rollout"):
        rollouts = collect(training.asking(config), step)
        actors.engine.sleep()
    track_learning(training, rollouts, config)
    work = train_on(rollouts.kept, config, training, folder)
    with watch.phase("sync"):
        gap = sync(training, config)
    record, sampled = work.record.merged(actors.ranks), work.sampler_gap().merged(actors.ranks)
    training.ledger.add(rollouts, record)
    answers = []
    if is_spent(config, training) or is_due(step + 1, config):
        with watch.phase("evaluation"):
            answers = evaluate(training.asking(config), step + 1, samples_after(step + 1, config, training))
    with watch.phase("record"):
        if answers:
            folder.add_evaluation(answers)
        if config.run.record_rollouts == "all":
            advantages = keyed_advantages(rollouts.kept, config)
            trained = trained_responses(work.minibatches, work.known, advantages, actors.ranks)
            folder.add_step(step, rollouts, record, trained, policy)
    metrics: Metrics = (
        {"step": step} | rollout_metrics(rollouts) | training_metrics(sampled, record, config.optimizer.grad_clip)
    )
    metrics |= noise_metrics(training.noise, list(record.names))
    metrics |= {"sync/logprob_gap": gap} if actors.engine.needs_weights else {}
    return metrics | training.ledger.metrics() | watch.lap()


def train_on(groups: list[Group], config: Config, training: Training, folder: RunFolder) -> Work:
    """The updates that a step makes from its groups."""
    updater, watch = training.updater, training.watch
    with watch.phase("logprobs"):
        minibatches = plan_minibatches(groups, training.policy, training.task, config, updater.backend.ranks)
        known = known_logprobs(updater.backend, training.reference, minibatches, config.rollout.temperature)
        if training.noise is None and minibatches:
            training.noise = checked_noise(updater, minibatches, known)  # None where it is no number
        work = Work(minibatches, known, LossRecord(metric_names(updater.loss)))
        if not training.sampler_checked:
            gap = work.sampler_gap().merged(training.actors.ranks)
            training.sampler_checked = check_sampler_agrees(gap, config)
    with watch.phase("update"):
        for _ in range(config.optimizer.epochs):
            for minibatch, logprobs in zip(minibatches, known, strict=True):
                update(training, minibatch, logprobs, work.record, folder)
    return work


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
        training.actors.ranks.wait()  # the first rank to exit ends the others, which may still be writing
        raise Stopped(
            f"stopped by {stop} after {done} of {config.run.steps} steps; go on with: "
            f"python -m harness resume {folder.path}"
        )
