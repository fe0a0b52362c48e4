"""Folders: the names in a run folder, the cache, and folders written whole or not at all.

The schema of a run folder is docs/run_folder.md.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError
from harness.files import make_synced, sha256_of, sync, write_json

SCHEMA_VERSION = 1
METRICS, RECORDS, STATUS, CHECKPOINTS = "metrics.jsonl", "records.sha256", "status.json", "checkpoints"
NONFINITE = "nonfinite"
KINDS = "rollouts", "tokens", "evals"
STARTING = "config.json", "environment.json"
MANIFEST = "manifest.json"


class FolderFault(HarnessError):
    """A folder does not hold what was written."""


def cache_folder() -> Path:
    """Where to keep what can be made again, such as warm starts: $FIPO_HARNESS_CACHE, else the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fipo-harness"
    return Path(os.environ.get("FIPO_HARNESS_CACHE", default))


def save_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder with what `fill` puts there, under a manifest of each file's sha256: made beside and renamed."""
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
            file.chmod((unfinished / MANIFEST).stat().st_mode)  # safetensors makes its files for the owner alone
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync(path.parent)


def check_manifest(folder: Path) -> None:
    """Raise FolderFault unless the folder holds exactly the files of its manifest, bit for bit."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = files_of(folder)
    except (OSError, ValueError, RecursionError) as error:
        raise FolderFault(f"{folder}: expected a readable {MANIFEST}, got: {error}") from None
    if not isinstance(manifest, dict) or set(manifest) != set(files):
        found = ", ".join(files) or "none"
        raise FolderFault(f"{folder}: expected the files of its {MANIFEST} and no others, got {found}")
    for name, file in files.items():
        if file.is_symlink() or not file.is_file() or sha256_of(file) != manifest[name]:
            raise FolderFault(f"{file}: is not what was written: its sha256 is another than in {MANIFEST}")


def files_of(folder: Path) -> dict[str, Path]:
    """All files and empty folders below the folder, by relative path, without the manifest."""
    files = (file for file in sorted(folder.rglob("*")) if file != folder / MANIFEST)
    found = {file.relative_to(folder).as_posix(): file for file in files}
    holding = {parent.as_posix() for name in found for parent in Path(name).parents}
    return {name: file for name, file in found.items() if name not in holding}
