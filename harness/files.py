"""The cache folder, and atomic, durable writes: a file is flushed to disk and renamed, then its folder is flushed."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa


def cache_folder() -> Path:
    """The folder for files that can be rebuilt, such as warm starts: $FIPO_HARNESS_CACHE, else in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "fipo-harness"
    return Path(os.environ.get("FIPO_HARNESS_CACHE", default))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A temporary file to write to, which replaces `path` when the block ends; an error leaves `path` unchanged."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # with the pid: others may write the same file
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def json_object(path: Path) -> dict[str, Any] | None:
    """A file's JSON object, or None if it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically. Raises ValueError for NaN and infinities."""
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")


def write_table(path: Path, rows: Sequence[dict[str, Any]], schema: "pa.Schema") -> None:
    """Write the rows as a parquet file, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole_file(path) as file:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_synced(path: Path) -> None:
    """Create the folder if it is missing, and flush its entry in the parent to disk."""
    if not path.is_dir():
        path.mkdir(parents=True)
        sync(path.parent)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed because the disk is full; safetensors reports that only in its message."""
    full = errno.ENOSPC, errno.EDQUOT
    return getattr(error, "errno", None) in full or any(f"os error {number}" in str(error) for number in full)


@dataclass(frozen=True)
class Mark:
    """A position in a journal: its length and the hash of its content."""

    bytes: int
    sha256: str


class Journal:
    """An append-only file of lines. Opening it cuts off an incomplete last line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = self.content()
        if (whole := content.rfind(b"\n") + 1) < len(content):
            os.truncate(path, whole)

    def content(self) -> bytes:
        return self.path.read_bytes() if self.path.is_file() else b""

    def append(self, line: str) -> None:
        """Append a line and flush it to disk; if that fails, the file is cut back to its previous length."""
        length = self.path.stat().st_size if self.path.exists() else None
        try:
            with self.path.open("ab") as file:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.truncate(self.path, length or 0)
            raise
        if length is None:
            sync(self.path.parent)

    def mark(self) -> Mark:
        content = self.content()
        return Mark(len(content), hashlib.sha256(content).hexdigest())


def prefix_at(path: Path, mark: Mark) -> bytes | None:
    """The journal's content up to the mark, or None if the file no longer begins with that content."""
    content = path.read_bytes() if path.is_file() else b""
    prefix = content[: mark.bytes]
    return prefix if len(prefix) == mark.bytes and hashlib.sha256(prefix).hexdigest() == mark.sha256 else None
