"""Checkpoints: a folder with a run's state between two steps, tensors in safetensors and the rest in JSON."""

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from harness.algorithm.metrics import Ledger
from harness.algorithm.noise import Noise
from harness.algorithm.state import Training, begin
from harness.backends.backend import MOMENTS, Tensors, trained_parameters
from harness.backends.ranks import ALONE, Ranks
from harness.config.schema import Config
from harness.console import say
from harness.errors import UsageError
from harness.files import Mark, write_json
from harness.model.policy import Policy, write_policy
from harness.run.folder import CHECKPOINTS, OPTIMIZER, STATE, TRAINED, FolderFault, check_manifest, save_folder
from harness.run.history import History, read_history
from harness.run.initial_model import pretrained_policy, recorded_initial_policy
from harness.tasks.task import Task

KEPT = 2  # number of checkpoints to keep


class State(BaseModel):
    """Everything in a checkpoint but tensors. Random streams need no state because they are keyed by step."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    steps_done: int = Field(ge=0)
    first_step: int = Field(default=0, ge=0)  # of a run that started from a checkpoint: the steps done before it
    updates: int = Field(ge=0)  # optimizer updates, the position of the learning-rate schedule
    ledger: dict[str, int | float]
    noise: Noise | None
    has_learned: bool = True  # default for checkpoints of older versions
    elapsed_s: float
    metrics: Mark  # position in metrics.jsonl
    records: Mark  # position in records.sha256


def save_weights(path: Path, policy: Policy, weights: Tensors | None = None) -> None:
    """Save the policy as a transformers folder, with `weights` instead of the model's if given."""
    save_folder(path, lambda folder: write_policy(folder, policy, weights))


def gather_tensors(training: Training) -> tuple[Tensors | None, Tensors | None, Tensors]:
    """A checkpoint's model weights, its adapters or master weights, and its moments, gathered from all ranks.

    Weights are None if none of them are trained (LoRA); adapters or masters are None if the weights include everything
    that is trained. All are empty on ranks other than the first. Collective: every rank must call it.
    """
    config = training.updater.config
    trained, moments = training.updater.backend.state()
    if config.model.lora_rank:
        return None, trained, moments
    weights = whole_weights(training)
    return weights, trained if config.model.dtype == "bfloat16" else None, moments


def whole_weights(training: Training) -> Tensors:
    """All weights with adapters merged, gathered from all ranks to the first; empty on the others. Collective."""
    backend = training.updater.backend
    kept = (pair for pair in backend.weights() if backend.ranks.is_first)
    return {name: tensor.to("cpu", copy=backend.must_copy_weights) for name, tensor in kept}


def save_state(path: Path, training: Training, metrics: Mark, records: Mark) -> None:
    """Save weights, optimizer and state as a folder, unless it exists, as where the run was resumed from it."""
    weights, trained, moments = gather_tensors(training)
    state = State(
        steps_done=training.steps_done,
        first_step=training.first_step,
        updates=training.updater.backend.schedule.last_epoch,
        ledger=dataclasses.asdict(training.ledger),
        noise=training.noise,
        has_learned=training.has_learned,
        elapsed_s=training.watch.elapsed_s(),
        metrics=metrics,
        records=records,
    )

    def fill(folder: Path) -> None:
        if weights is not None:
            write_policy(folder, training.policy, weights)
        if trained is not None:
            save_file(trained, folder / TRAINED)
        save_file(moments, folder / OPTIMIZER)
        write_json(folder / STATE, state.model_dump(mode="json"))

    if not path.exists():
        save_folder(path, fill)


def prune(checkpoints: Path) -> None:
    """Delete all but the newest KEPT checkpoints, renaming each first so that a kill leaves no partial checkpoint."""
    for old in kept_checkpoints(checkpoints)[KEPT:]:
        gone = old.with_name(f".{old.name}.unfinished")
        shutil.rmtree(gone, ignore_errors=True)
        old.rename(gone)
        shutil.rmtree(gone)


def kept_checkpoints(checkpoints: Path) -> list[Path]:
    """The checkpoint folders, newest first; they may be damaged."""
    return sorted((folder for folder in checkpoints.glob("step_*") if step_of(folder) >= 0), key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """The number of steps done, read from a checkpoint's name; -1 for any other name."""
    digits = folder.name.removeprefix("step_")
    return int(digits) if digits.isdecimal() else -1


def read_state(folder: Path) -> State:
    """Check a checkpoint's manifest and read its state. Raises FolderFault if it is damaged."""
    check_manifest(folder)
    try:
        return State.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValidationError) as error:
        cause = str(error).splitlines()[0]
        raise FolderFault(f"{folder / STATE}: expected the state of a run, got: {cause}") from None


def load_checkpoint(
    folder: Path, state: State, config: Config, reference: Policy | None, ranks: Ranks = ALONE
) -> Training:
    """Restore the run from a checkpoint, which may have been written by a different number of ranks.

    Raises FolderFault if the checkpoint does not fit the config.
    """
    try:
        policy, trained = load_trained(folder, config)
        moments = load_file(folder / OPTIMIZER)
    except (UsageError, SafetensorError) as error:
        raise FolderFault(f"{folder}: expected the weights and moments of a run, got: {error}") from None
    check_moments(folder, moments, policy, state.updates)
    training = begin(config, policy, reference, ranks)
    if state.ledger.keys() != dataclasses.asdict(training.ledger).keys():
        raise FolderFault(f"{folder / STATE}: expected the ledger of this version, got {', '.join(state.ledger)}")
    training.ledger = Ledger(**state.ledger)  # type: ignore[arg-type]
    training.updater.backend.load_state(trained, moments)
    fast_forward(training.updater.backend.schedule, state.updates)
    training.noise, training.has_learned, training.steps_done = state.noise, state.has_learned, state.steps_done
    training.first_step = state.first_step
    training.watch.resume(state.elapsed_s)
    return training


def newest_training(
    history: History,
    reference: Policy | None,
    ranks: Ranks = ALONE,
    check: Callable[[History, State], None] = lambda *_: None,
    until: float = math.inf,
) -> tuple[Training, State | None]:
    """The run at its newest usable checkpoint, and the checkpoint's state; before its first step if there is none.

    check: raises FolderFault for a state that is not usable. until: the most steps that may be done there.
    """
    for folder in (folder for folder in kept_checkpoints(history.path / CHECKPOINTS) if step_of(folder) <= until):
        try:
            state = read_state(folder)
            check(history, state)
            return load_checkpoint(folder, state, history.config, reference, ranks), state
        except FolderFault as fault:
            say(f"note: {fault}; {folder.name} is not used")
    return begin_run(history.config, recorded_initial_policy(history), reference, ranks), None


def begin_run(
    config: Config, policy: Policy, reference: Policy | None, ranks: Ranks = ALONE, task: Task | None = None
) -> Training:
    """A run before its first step, with the optimizer, schedule and place of --start_from, if any.

    Ledger, clock and noise begin anew, since they are of this run.
    """
    training = begin(config, policy, reference, ranks, task)
    if config.run.start_from:
        folder = Path(config.run.start_from)
        state, moments = read_state(folder), load_file(folder / OPTIMIZER)
        check_moments(folder, moments, policy, state.updates)
        training.updater.backend.load_state({}, moments)
        fast_forward(training.updater.backend.schedule, state.updates)
        training.first_step = state.first_step + state.steps_done
    return training


@torch.no_grad()
def load_trained(folder: Path, config: Config) -> tuple[Policy, Tensors]:
    """The policy of a checkpoint, and its adapters or master weights; empty if there are none."""
    lora = config.model.lora_rank
    initial = recorded_initial_policy(read_history(folder.parents[1])) if lora else None
    policy = initial or pretrained_policy(str(folder), config)
    if not (folder / TRAINED).is_file():
        return policy, {}
    trained, parameters = load_file(folder / TRAINED), dict(trained_parameters(policy.model))
    if {name: tensor.shape for name, tensor in trained.items()} != {name: p.shape for name, p in parameters.items()}:
        raise FolderFault(f"{folder / TRAINED}: expected the tensors that the config trains, got others")
    for name, tensor in trained.items():
        parameters[name].copy_(tensor)
    return policy, trained


def check_moments(folder: Path, tensors: dict[str, torch.Tensor], policy: Policy, updates: int) -> None:
    """Raise FolderFault unless each parameter has all moments or none, and moments exist if and only if updates > 0."""
    shapes = {name: parameter.shape for name, parameter in trained_parameters(policy.model)}
    named = {key.rpartition("/")[0] for key in tensors}
    expected = {
        f"{name}/{moment}": torch.Size() if moment == "step" else shapes.get(name)
        for name in named
        for moment in MOMENTS
    }
    if bool(tensors) != (updates > 0) or {key: tensor.shape for key, tensor in tensors.items()} != expected:
        raise FolderFault(f"{folder / OPTIMIZER}: expected {', '.join(MOMENTS)} of each parameter, got others")


def fast_forward(schedule: torch.optim.lr_scheduler.LambdaLR, updates: int) -> None:
    """Set the schedule and the learning rate to their values after `updates` optimizer updates."""
    rates = [base * rate(updates) for base, rate in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    position = {"last_epoch": updates, "_step_count": updates + 1, "_last_lr": rates}
    schedule.load_state_dict(schedule.state_dict() | position)
