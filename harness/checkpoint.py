"""Folders of weights and state: safetensors and JSON only, under a manifest of hashes; there whole or not at all."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from harness.config import Config
from harness.errors import HarnessError
from harness.files import Mark, sha256_of, sync, write_json
from harness.metrics import Ledger
from harness.noise import Noise
from harness.policy import Policy, load_policy
from harness.training import Training, begin

MANIFEST, STATE, OPTIMIZER = "manifest.json", "state.json", "optimizer.safetensors"
KEPT = 2  # newest checkpoints of a run


class CheckpointFault(HarnessError):
    """A checkpoint does not hold what was written."""


class State(BaseModel):
    """What a run knows between two steps besides its tensors; random numbers need none, they are keyed by step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps_done: int
    ledger: dict[str, int | float]
    noise: Noise | None
    elapsed_s: float
    schedule: dict[str, Any]
    metrics: Mark  # what metrics.jsonl held
    records: Mark  # what records.sha256 held


def save_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """A folder with what `fill` puts there and a manifest with the sha256 of each file, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        fill(unfinished)
        files = sorted(unfinished.iterdir())
        for file in files:
            sync(file)
        write_json(unfinished / MANIFEST, {file.name: sha256_of(file) for file in files})
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
    path = checkpoints / f"step_{training.steps_done:06d}"
    if path.exists():  # the one that the run was resumed from
        return
    schedule = {name: value for name, value in training.updater.schedule.state_dict().items() if name != "lr_lambdas"}
    state = State(
        steps_done=training.steps_done,
        ledger=dataclasses.asdict(training.ledger),
        noise=training.noise,
        elapsed_s=training.watch.elapsed_s(),
        schedule=schedule,
        metrics=metrics,
        records=records,
    )

    def fill(folder: Path) -> None:
        write_policy(folder, training.policy)
        save_file(optimizer_tensors(training), folder / OPTIMIZER)
        write_json(folder / STATE, state.model_dump(mode="json"))

    save_folder(path, fill)
    for old in kept_checkpoints(checkpoints)[KEPT:]:
        shutil.rmtree(old)


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
    except (OSError, ValueError) as error:
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
    training = begin(config, load_policy(str(folder), config.model.dtype), reference)
    schedule = training.updater.schedule
    try:
        tensors = load_file(folder / OPTIMIZER)
        training.ledger = Ledger(**state.ledger)  # type: ignore[arg-type]
        schedule.load_state_dict(schedule.state_dict() | state.schedule)
    except (SafetensorError, TypeError) as error:
        raise CheckpointFault(
            f"{folder}: expected the state of this run's optimizer and ledger, got: {error}"
        ) from None
    for group, lr in zip(training.updater.optimizer.param_groups, schedule.get_last_lr(), strict=True):
        group["lr"] = lr
    parameters = dict(training.policy.model.named_parameters())
    for key, tensor in tensors.items():
        name, _, moment = key.rpartition("/")
        training.updater.optimizer.state[parameters[name]][moment] = tensor.clone()
    training.noise, training.steps_done = state.noise, state.steps_done
    training.watch.resume(state.elapsed_s)
    return training
