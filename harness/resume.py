"""Resumes a stopped run from its newest valid checkpoint, or from the start."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from json import dumps
from pathlib import Path

from harness.algorithm.state import Training
from harness.backends.ranks import ALONE, Ranks
from harness.backends.signals import stop_requests
from harness.backends.torch_setup import set_up_torch
from harness.console import output, say
from harness.files import Journal, prefix_at, sha256_of, sync, whole_file
from harness.loop import OnStep, carry_on, ranks_of
from harness.model.policy import Policy
from harness.run.checkpoint import State, begin_run, kept_checkpoints, load_checkpoint, read_state, step_of
from harness.run.environment import check_origins, differences_here, model_config_sha256
from harness.run.folder import CHECKPOINTS, KINDS, METRICS, RECORDS, STARTING, FolderFault
from harness.run.history import History, read_history, unfinished
from harness.run.initial_model import recorded_initial_policy
from harness.run.lock import held
from harness.run.record import NullRunFolder, RunFolder
from harness.tasks.math.task import check_same_data
from harness.tasks.own_files import CODE, own_code_hashes, recorded_code
from harness.tasks.task import prompt_hashes


def resume(path: Path, on_step: OnStep) -> RunFolder:
    """Continue the run in the folder with bit-identical results, as if it had never stopped.

    With a different number of ranks, sums over ranks may differ in their last bits. Raises UsageError if the folder
    holds no run, the run has finished, or another process is writing to it.
    """
    output.begin()
    ranks = ranks_of(read_history(path).config)  # fails before a lock file is made if the folder holds no run
    with stop_requests() as requested, held(path, requested, ranks) as stop_requested, recorded_code(path):
        history = unfinished(path)
        set_up_torch(history.config.run.threads)
        reference = recorded_initial_policy(history) if history.config.loss.needs_reference else None
        start = newest_start(history, reference, ranks)
        check_same_origins(history, start.training, ranks)
        if ranks.is_first:
            keep_until(path, start)
            note_resume(history, start.training.steps_done, ranks)
        folder = RunFolder(path) if ranks.is_first else NullRunFolder(path)
        carry_on(history.config, start.training, folder, on_step, stop_requested)
    return folder


def check_same_origins(history: History, training: Training, ranks: Ranks) -> None:
    """Raise UsageError unless data, prompts and model config are those that the run began with."""
    settings, facts = history.config.evaluation, training.task.facts
    held_out = training.task.held_out(settings.eval_split, settings.eval_prompts)
    check_same_data(history.environment, facts)
    now = {"model_config_sha256": model_config_sha256(training.policy)}
    now |= own_code_hashes(history.config)
    check_origins({**facts, **now, **prompt_hashes(training.policy, held_out, "eval")}, ranks, history.environment)


@dataclass(frozen=True)
class Start:
    """The state from which a resumed run continues."""

    training: Training
    kept: dict[str, bytes]  # content of each journal at that point
    checkpoint: Path | None  # None: the beginning of the run


def newest_start(history: History, reference: Policy | None, ranks: Ranks = ALONE) -> Start:
    """The state at the newest valid checkpoint, or before the first step if there is none."""
    for folder in kept_checkpoints(history.path / CHECKPOINTS):
        try:
            state = read_state(folder)
            kept = kept_records(history.path, state)
            training = load_checkpoint(folder, state, history.config, reference, ranks)
        except FolderFault as fault:
            say(f"note: {fault}; {folder.name} is not used")
        else:
            say(f"resuming {history.path} after {training.steps_done} of {history.config.run.steps} steps")
            return Start(training, kept, folder)
    say(f"resuming {history.path} from its start")
    policy = recorded_initial_policy(history)
    kept = {METRICS: b"", RECORDS: starting_records(history.path).encode()}
    return Start(begin_run(history.config, policy, reference, ranks), kept, None)


def kept_records(path: Path, state: State) -> dict[str, bytes]:
    """The journals' content at the time of the checkpoint. Raises FolderFault if an earlier record has changed."""
    kept = {}
    for name, mark in ((METRICS, state.metrics), (RECORDS, state.records)):
        content = prefix_at(path / name, mark)
        if content is None:
            raise FolderFault(f"{path / name}: has changed since it was written, before the checkpoint")
        kept[name] = content
    for line in kept[RECORDS].decode().splitlines():
        digest, _, name = line.partition("  ")
        if not (path / name).is_file() or sha256_of(path / name) != digest:
            fault = f"{path / name}: has changed since it was written"
            if name not in STARTING:
                raise FolderFault(fault)
            say(f"note: {fault}, which does not affect what follows")
    return kept


def starting_records(path: Path) -> str:
    """The lines of records.sha256 for the run's initial files."""
    names = [*STARTING, *(f"{CODE}/{file.name}" for file in sorted((path / CODE).glob("*.py")))]
    return "".join(f"{sha256_of(path / name)}  {name}\n" for name in names)


def keep_until(path: Path, start: Start) -> None:
    """Move everything written after `start` to superseded/, so that the run can write it again.

    If the process is killed here, the folder can still be resumed from the same checkpoint.
    """
    beyond = [file for file in written_since(path, start) if file.exists()]
    now = {name: (path / name).read_bytes() if (path / name).is_file() else b"" for name in start.kept}
    changed = {name: content for name, content in start.kept.items() if content != now[name]}
    for leftover in [*path.rglob(".*.tmp"), *path.rglob(".*.unfinished")]:
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    if not beyond and not changed:
        return
    superseded = new_folder(path / "superseded")
    for file in beyond:
        target = superseded / file.relative_to(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
        sync(target.parent)
    for name, content in changed.items():
        (superseded / name).write_bytes(now[name])
        with whole_file(path / name) as journal:
            journal.write(content)


def written_since(path: Path, start: Start) -> Iterator[Path]:
    """Tables that the kept records do not list, and checkpoints of later steps."""
    named = {line.partition("  ")[2] for line in start.kept[RECORDS].decode().splitlines()}
    used = step_of(start.checkpoint) if start.checkpoint else -1
    for kind in KINDS:
        yield from (file for file in sorted((path / kind).glob("*.parquet")) if f"{kind}/{file.name}" not in named)
    yield from (folder for folder in kept_checkpoints(path / CHECKPOINTS) if step_of(folder) > used)
    yield path / CHECKPOINTS / "final"


def new_folder(parent: Path) -> Path:
    parent.mkdir(exist_ok=True)
    number = 1 + max((int(folder.name) for folder in parent.iterdir() if folder.name.isdecimal()), default=0)
    (parent / str(number)).mkdir()
    return parent / str(number)


def note_resume(history: History, steps_done: int, ranks: Ranks) -> None:
    """Record when the run was resumed and how the environment differs from the original one; print the differences."""
    differences = differences_here(history.environment, history.config, ranks.world)
    for name, (then, now) in differences.items():
        say(f"note: {name} was {then!r} and is now {now!r}: results may differ in the last bits from here on")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"steps_done": steps_done, "at": at, "differences": differences}
    Journal(history.path / "resumes.jsonl").append(dumps(line))
