"""A run's state between two steps, as a folder: weights and moments in safetensors, the rest in JSON."""

import dataclasses
import shutil
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from harness.config import Config
from harness.errors import UsageError
from harness.files import Mark, write_json
from harness.manifest import FolderFault, check_manifest, save_folder
from harness.metrics import Ledger
from harness.noise import Noise
from harness.policy import Policy, load_policy, write_policy
from harness.training import Training, begin

STATE, OPTIMIZER = "state.json", "optimizer.safetensors"
MOMENTS = "step", "exp_avg", "exp_avg_sq"  # what AdamW knows of a parameter
KEPT = 2  # newest checkpoints of a run


class State(BaseModel):
    """What a run knows between two steps besides its tensors; random numbers need none, they are keyed by step."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    steps_done: int = Field(ge=0)
    updates: int = Field(ge=0)  # made by the optimizer, which the schedule goes by
    ledger: dict[str, int | float]
    noise: Noise | None
    elapsed_s: float
    metrics: Mark  # what metrics.jsonl held
    records: Mark  # what records.sha256 held


def save_weights(path: Path, policy: Policy) -> None:
    """The policy as a transformers folder."""
    save_folder(path, lambda folder: write_policy(folder, policy))


def save_checkpoint(checkpoints: Path, training: Training, metrics: Mark, records: Mark) -> None:
    """All that a resumed run needs, as a folder named by the steps done; older ones than the newest two go."""
    state = State(
        steps_done=training.steps_done,
        updates=training.updater.schedule.last_epoch,
        ledger=dataclasses.asdict(training.ledger),
        noise=training.noise,
        elapsed_s=training.watch.elapsed_s(),
        metrics=metrics,
        records=records,
    )

    def fill(folder: Path) -> None:
        write_policy(folder, training.policy)
        save_file(optimizer_tensors(training), folder / OPTIMIZER)
        write_json(folder / STATE, state.model_dump(mode="json"))

    path = checkpoints / f"step_{training.steps_done:06d}"
    if not path.exists():  # else it is the one that the run was resumed from
        save_folder(path, fill)
    prune(checkpoints)


def prune(checkpoints: Path) -> None:
    """Remove all but the newest; a kill here leaves no half of a checkpoint under its name."""
    for old in kept_checkpoints(checkpoints)[KEPT:]:
        gone = old.with_name(f".{old.name}.unfinished")
        shutil.rmtree(gone, ignore_errors=True)
        old.rename(gone)
        shutil.rmtree(gone)


def kept_checkpoints(checkpoints: Path) -> list[Path]:
    """The folders that hold a state, newest first, valid or not."""
    return sorted((folder for folder in checkpoints.glob("step_*") if step_of(folder) >= 0), key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """The steps done, by its name; -1 of what is no checkpoint's name."""
    digits = folder.name.removeprefix("step_")
    return int(digits) if digits.isdecimal() else -1


def optimizer_tensors(training: Training) -> dict[str, torch.Tensor]:
    """The optimizer's moments and step counts by parameter name."""
    optimizer = training.updater.optimizer
    return {
        f"{name}/{key}": value.contiguous()
        for name, parameter in training.policy.model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def read_state(folder: Path) -> State:
    """The state of a checkpoint whose manifest holds. Raises FolderFault where it cannot be used."""
    check_manifest(folder)
    try:
        return State.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValidationError) as error:
        cause = str(error).splitlines()[0]
        raise FolderFault(f"{folder / STATE}: expected the state of a run, got: {cause}") from None


def load_checkpoint(folder: Path, state: State, config: Config, reference: Policy | None) -> Training:
    """The run as it was when the checkpoint was written. Raises FolderFault where it does not fit the config."""
    try:
        policy, tensors = load_policy(str(folder), config.model.dtype), load_file(folder / OPTIMIZER)
    except (UsageError, SafetensorError) as error:
        raise FolderFault(f"{folder}: expected the weights and moments of a run, got: {error}") from None
    training = begin(config, policy, reference)
    check_moments(folder, tensors, policy, state.updates)
    if state.ledger.keys() != dataclasses.asdict(training.ledger).keys():
        raise FolderFault(f"{folder / STATE}: expected the ledger of this version, got {', '.join(state.ledger)}")
    training.ledger = Ledger(**state.ledger)  # type: ignore[arg-type]
    parameters = dict(policy.model.named_parameters())
    for key, tensor in tensors.items():
        name, _, moment = key.rpartition("/")
        training.updater.optimizer.state[parameters[name]][moment] = tensor.clone()
    fast_forward(training.updater.schedule, state.updates)
    training.noise, training.steps_done = state.noise, state.steps_done
    training.watch.resume(state.elapsed_s)
    return training


def check_moments(folder: Path, tensors: dict[str, torch.Tensor], policy: Policy, updates: int) -> None:
    """Raise FolderFault unless these are all the moments of each parameter that has any, and some after updates."""
    shapes = {name: parameter.shape for name, parameter in policy.model.named_parameters()}
    named = {key.rpartition("/")[0] for key in tensors}
    expected = {
        f"{name}/{moment}": torch.Size() if moment == "step" else shapes.get(name)
        for name in named
        for moment in MOMENTS
    }
    if bool(tensors) != (updates > 0) or {key: tensor.shape for key, tensor in tensors.items()} != expected:
        raise FolderFault(f"{folder / OPTIMIZER}: expected {', '.join(MOMENTS)} of each parameter, got others")


def fast_forward(schedule: torch.optim.lr_scheduler.LambdaLR, updates: int) -> None:
    """Set schedule and learning rate to where so many updates bring them."""
    rates = [base * rate(updates) for base, rate in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    position = {"last_epoch": updates, "_step_count": updates + 1, "_last_lr": rates}
    schedule.load_state_dict(schedule.state_dict() | position)
