"""Resumes a stopped run from its newest valid checkpoint, or from the start."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from json import dumps
from pathlib import Path

from harness.algorithm.state import Training
from harness.backends.ranks import Ranks
from harness.backends.signals import stop_requests
from harness.backends.torch_setup import set_up_torch
from harness.console import output, say
from harness.files import Journal, prefix_at, sha256_of, sync, whole_file
from harness.loop import OnStep, carry_on, ranks_of
from harness.run.checkpoint import State, kept_checkpoints, newest_training, step_of
from harness.run.environment import check_origins, differences_here, model_config_sha256
from harness.run.folder import CHECKPOINTS, KINDS, METRICS, RECORDS, STARTING, FolderFault
from harness.run.history import History, read_history, unfinished
from harness.run.initial_model import recorded_initial_policy
from harness.run.lock import locked
from harness.run.record import NullRunFolder, RunFolder
from harness.tasks.math.task import check_same_data
from harness.tasks.own_files import CODE, own_code_hashes, recorded_code
from harness.tasks.task import prompt_hashes

RECORD = re.compile(r"[0-9a-f]{64}  (.+)")


def resume(path: Path, on_step: OnStep) -> RunFolder:
    """Continue the run in the folder with bit-identical results, as if it had never stopped.

    With a different number of ranks, sums over ranks may differ in their last bits. Raises UsageError if the folder
    holds no run, the run has finished, or another process is writing to it.
    """
    output.begin()
    ranks = ranks_of(read_history(path).config)  # fails before a lock file is made if the folder holds no run
    with stop_requests() as requested, locked(path, requested, ranks) as stop_requested, recorded_code(path):
        history = unfinished(path)
        set_up_torch(history.config.run.threads)
        reference = recorded_initial_policy(history) if history.config.loss.needs_reference else None
        check_starting(path)
        training, state = newest_training(history, reference, ranks, check_records)
        done = f"after {training.steps_done} of {history.config.run.steps} steps" if state else "from its start"
        say(f"resuming {path} {done}")
        check_same_origins(history, training, ranks)
        if ranks.is_first:
            keep_until(path, state)
            note_resume(history, training.steps_done, ranks)
        folder = RunFolder(path) if ranks.is_first else NullRunFolder(path)
        carry_on(history.config, training, folder, on_step, stop_requested)
    return folder


def check_same_origins(history: History, training: Training, ranks: Ranks) -> None:
    """Raise UsageError unless data, prompts and model config are those that the run began with."""
    settings, facts = history.config.evaluation, training.task.facts
    held_out = training.task.held_out(settings.eval_split, settings.eval_prompts)
    check_same_data(history.environment, facts)
    now = {"model_config_sha256": model_config_sha256(training.policy)}
    now |= own_code_hashes(history.config)
    check_origins({**facts, **now, **prompt_hashes(training.policy, held_out, "eval")}, ranks, history.environment)


def check_records(history: History, state: State) -> None:
    """Raise FolderFault if the journals or a table have changed since they were written, before the checkpoint."""
    path, kept = history.path, kept_journals(history.path, state)
    for name, content in kept.items():
        if content is None:
            raise FolderFault(f"{path / name}: has changed since it was written, before the checkpoint")
    for line in (kept[RECORDS] or b"").decode().splitlines():
        digest, _, name = line.partition("  ")
        if name not in STARTING and not ((path / name).is_file() and sha256_of(path / name) == digest):
            raise FolderFault(f"{path / name}: has changed since it was written")


def check_starting(path: Path) -> None:
    """Print a note for each initial file that is not as recorded; `read_history` checks the config itself."""
    if not (recorded := recorded_start(path)):
        names = ", ".join(initial_files(path))
        say(f"note: {path / RECORDS}: expected hashes of {names} first, got others: these files may have changed")
    for line in recorded:
        digest, _, name = line.partition("  ")
        if sha256_of(path / name) != digest:
            say(f"note: {path / name}: has changed since it was written, so it may describe the run's start wrongly")


def recorded_start(path: Path) -> list[str]:
    """The lines of records.sha256 for the run's initial files; none if they are damaged."""
    content = (path / RECORDS).read_bytes() if (path / RECORDS).is_file() else b""
    names = initial_files(path)
    lines = content.decode(errors="replace").splitlines()[: len(names)]
    found = [match[1] for line in lines if (match := RECORD.fullmatch(line))]
    return lines if sorted(found) == sorted(names) else []


def initial_files(path: Path) -> list[str]:
    return [*STARTING, *(f"{CODE}/{file.name}" for file in sorted((path / CODE).glob("*.py")))]


def kept_journals(path: Path, state: State | None) -> dict[str, bytes | None]:
    """The content of each journal at the checkpoint, None if that has changed; without one, at the run's start.

    The initial files are hashed anew only if their recorded hashes are damaged.
    """
    if state:
        return {METRICS: prefix_at(path / METRICS, state.metrics), RECORDS: prefix_at(path / RECORDS, state.records)}
    lines = recorded_start(path) or [f"{sha256_of(path / name)}  {name}" for name in initial_files(path)]
    return {METRICS: b"", RECORDS: "".join(f"{line}\n" for line in lines).encode()}


def keep_until(path: Path, state: State | None) -> None:
    """Move everything written after the checkpoint, or after the start, to superseded/: the run writes it again.

    If the process is killed here, the folder can still be resumed from the same checkpoint.
    """
    kept = {name: content or b"" for name, content in kept_journals(path, state).items()}
    beyond = [file for file in written_since(path, kept[RECORDS], state) if file.exists()]
    now = {name: (path / name).read_bytes() if (path / name).is_file() else b"" for name in kept}
    changed = {name: content for name, content in kept.items() if content != now[name]}
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


def written_since(path: Path, records: bytes, state: State | None) -> Iterator[Path]:
    """Tables that the kept records do not list, and checkpoints of later steps."""
    named = {line.partition("  ")[2] for line in records.decode().splitlines()}
    for kind in KINDS:
        yield from (file for file in sorted((path / kind).glob("*.parquet")) if f"{kind}/{file.name}" not in named)
    used = state.steps_done if state else -1
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
