"""Folders of weights and state: safetensors and JSON only, under a manifest of hashes; there whole or not at all."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from harness.config import Config
from harness.errors import HarnessError, UsageError
from harness.files import Mark, make_synced, sha256_of, sync, write_json
from harness.metrics import Ledger
from harness.noise import Noise
from harness.policy import Policy, load_policy
from harness.training import Training, begin

MANIFEST, STATE, OPTIMIZER = "manifest.json", "state.json", "optimizer.safetensors"
MOMENTS = "step", "exp_avg", "exp_avg_sq"  # what AdamW knows of a parameter
KEPT = 2  # newest checkpoints of a run


class CheckpointFault(HarnessError):
    """A checkpoint does not hold what was written."""


class State(BaseModel):
    """What a run knows between two steps besides its tensors; random numbers need none, they are keyed by step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps_done: int = Field(ge=0)
    updates: int = Field(ge=0)  # made by the optimizer, which the schedule goes by
    ledger: dict[str, int | float]
    noise: Noise | None
    elapsed_s: float
    metrics: Mark  # what metrics.jsonl held
    records: Mark  # what records.sha256 held


def save_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """A folder with what `fill` puts there and a manifest with the sha256 of each file, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_synced(path.parent)
    unfinished.mkdir()
    try:
        fill(unfinished)
        files = sorted(unfinished.iterdir())
        for file in files:
            sync(file)
        write_json(unfinished / MANIFEST, {file.name: sha256_of(file) for file in files})
        for file in files:
            file.chmod((unfinished / MANIFEST).stat().st_mode)  # safetensors makes its files for the owner alone
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync(path.parent)


def save_weights(path: Path, policy: Policy) -> None:
    """The policy as a transformers folder."""
    save_folder(path, lambda folder: write_policy(folder, policy))


def write_policy(folder: Path, policy: Policy) -> None:
    """Weights and tokenizer as transformers and safetensors write them."""
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)


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
    return sorted(checkpoints.glob("step_*"), reverse=True)


def optimizer_tensors(training: Training) -> dict[str, torch.Tensor]:
    """The optimizer's moments and step counts by parameter name."""
    optimizer = training.updater.optimizer
    return {
        f"{name}/{key}": value.contiguous()
        for name, parameter in training.policy.model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def check_manifest(folder: Path) -> None:
    """Raise CheckpointFault unless the folder holds the files of its manifest, those alone, bit for bit."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = {file.name: file for file in folder.iterdir() if file.name != MANIFEST}
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointFault(f"{folder}: expected a readable {MANIFEST}, got: {error}") from None
    if not isinstance(manifest, dict) or set(manifest) != set(files):
        raise CheckpointFault(
            f"{folder}: expected the files of its {MANIFEST}, got {', '.join(sorted(files)) or 'none'}"
        )
    for name, file in files.items():
        if file.is_symlink() or not file.is_file() or sha256_of(file) != manifest[name]:
            raise CheckpointFault(f"{file}: is not what was written: its sha256 is another than in {MANIFEST}")


def read_state(folder: Path) -> State:
    """The state of a checkpoint whose manifest holds. Raises CheckpointFault where it cannot be used."""
    check_manifest(folder)
    try:
        return State.model_validate_json((folder / STATE).read_bytes())
    except (OSError, ValidationError) as error:
        cause = str(error).splitlines()[0]
        raise CheckpointFault(f"{folder / STATE}: expected the state of a run, got: {cause}") from None


def load_checkpoint(folder: Path, state: State, config: Config, reference: Policy | None) -> Training:
    """The run as it was when the checkpoint was written. Raises CheckpointFault where it does not fit the config."""
    try:
        policy, tensors = load_policy(str(folder), config.model.dtype), load_file(folder / OPTIMIZER)
    except (UsageError, SafetensorError) as error:
        raise CheckpointFault(f"{folder}: expected the weights and moments of a run, got: {error}") from None
    training = begin(config, policy, reference)
    check_moments(folder, tensors, policy, state.updates)
    if state.ledger.keys() != dataclasses.asdict(training.ledger).keys():
        raise CheckpointFault(f"{folder / STATE}: expected the ledger of this version, got {', '.join(state.ledger)}")
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
    """Raise CheckpointFault unless these are whole moments of the policy's parameters, some if there were updates."""
    shapes = {name: parameter.shape for name, parameter in policy.model.named_parameters()}
    named = {key.rpartition("/")[0] for key in tensors}
    expected = {
        f"{name}/{moment}": torch.Size() if moment == "step" else shapes.get(name)
        for name in named
        for moment in MOMENTS
    }
    if bool(tensors) != (updates > 0) or {key: tensor.shape for key, tensor in tensors.items()} != expected:
        raise CheckpointFault(f"{folder / OPTIMIZER}: expected {', '.join(MOMENTS)} of each parameter, got others")


def fast_forward(schedule: torch.optim.lr_scheduler.LambdaLR, updates: int) -> None:
    """Set schedule and learning rate to where so many updates bring them."""
    rates = [base * rate(updates) for base, rate in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    position = {"last_epoch": updates, "_step_count": updates + 1, "_last_lr": rates}
    schedule.load_state_dict(schedule.state_dict() | position)
