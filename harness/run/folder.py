"""File names in a run folder (docs/run_folder.md), and folders that are written atomically."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from harness.errors import HarnessError, as_usage_error
from harness.files import make_synced, sha256_of, sync, write_json

SCHEMA_VERSION = 1
METRICS, RECORDS, STATUS, CHECKPOINTS = "metrics.jsonl", "records.sha256", "status.json", "checkpoints"
KINDS = "rollouts", "tokens", "evals"
STARTING = "config.json", "environment.json"
MANIFEST = "manifest.json"
STATE, OPTIMIZER = "state.json", "optimizer.safetensors"  # of a checkpoint
TRAINED = "trained.safetensors"  # adapters or float32 master weights, which a transformers folder cannot hold


class FolderFault(HarnessError):
    """A folder's content differs from what this program wrote there."""


def save_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder atomically: `fill` writes a temporary folder, which gets a manifest of sha256s and is renamed."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    make_synced(path.parent)
    unfinished.mkdir()
    try:
        fill(unfinished)
        files = files_of(unfinished)
        for file in files.values():
            sync(file)
        write_json(unfinished / MANIFEST, {name: sha256_of(file) for name, file in files.items()})
        for file in files.values():
            file.chmod((unfinished / MANIFEST).stat().st_mode)  # safetensors makes files that only the owner can read
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync(path.parent)


def cached(folder: Path, flag: str, fill: Callable[[Path], None]) -> Path:
    """The folder in the cache, written by `fill` unless it is whole; other processes wait for the one that writes.

    Raises UsageError, which names the flag, if the cache cannot be written.
    """
    if is_whole(folder):
        return folder
    with as_usage_error(f"{flag}: expected a folder that can be written, got {str(folder.parent)!r}"):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            save_folder(folder, fill)
    return folder


def check_manifest(folder: Path) -> None:
    """Raise FolderFault unless the folder holds exactly the files in its manifest, with the same sha256s."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = files_of(folder)
    except (OSError, ValueError, RecursionError) as error:
        raise FolderFault(f"{folder}: expected a readable {MANIFEST}, got: {error}") from None
    if not isinstance(manifest, dict) or set(manifest) != set(files):
        found = ", ".join(files) or "none"
        raise FolderFault(f"{folder}: expected the files listed in its {MANIFEST} and no others, got {found}")
    for name, file in files.items():
        if file.is_symlink() or not file.is_file() or sha256_of(file) != manifest[name]:
            raise FolderFault(f"{file}: has changed since it was written: its sha256 differs from the {MANIFEST}")


def is_whole(folder: Path) -> bool:
    """Whether the folder is as `save_folder` wrote it."""
    try:
        check_manifest(folder)
    except FolderFault:
        return False
    return True


def files_of(folder: Path) -> dict[str, Path]:
    """All files and empty folders below `folder` by relative path, except the manifest."""
    files = (file for file in sorted(folder.rglob("*")) if file != folder / MANIFEST)
    found = {file.relative_to(folder).as_posix(): file for file in files}
    holding = {parent.as_posix() for name in found for parent in Path(name).parents}
    return {name: file for name, file in found.items() if name not in holding}
