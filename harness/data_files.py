"""Files of problems: from the hub at a pinned commit, or from this machine; every fault in one line."""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import UsageError
from harness.files import sha256_of

SHIPPED = Path(__file__).with_name("datasets.toml")
HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+):(?P<file>[^@:]+)(?:@(?P<revision>\S+))?")
BATCH_ROWS = 8192

Row = dict[str, Any]


@dataclass(frozen=True)
class DataFile:
    """A file of problems on this machine, and where it came from."""

    name: str  # as records and figures call it
    path: Path
    source: str  # the path as given, or repository and file
    revision: str | None  # the commit of a hub data set

    @property
    def sha256(self) -> str:
        """Hash of its bytes."""
        return sha256_of(self.path)


@cache
def shipped() -> dict[str, dict[str, str]]:
    """The data sets that have a name here: repository, file and commit."""
    table: dict[str, dict[str, str]] = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    return table


def data_file(given: str, flag: str) -> DataFile:
    """The file that a flag names. Raises UsageError where it cannot be had."""
    name, _, revision = given.partition("@")
    if name in shipped():
        known = shipped()[name]
        return hub_file(name, known["repo"], known["file"], revision or known["revision"], flag)
    if (path := Path(given).expanduser()).is_file():
        return DataFile(path.stem, path, given, None)
    if hub := HUB.fullmatch(given):
        return hub_file(Path(hub["file"]).stem, hub["repo"], hub["file"], hub["revision"] or "main", flag)
    raise UsageError(
        f"--{flag}: expected one of {', '.join(shipped())}, a hub file as OWNER/NAME:FILE@COMMIT, or a .parquet or "
        f".jsonl file, got {given!r}, which is none: check the name or path"
    )


def hub_file(name: str, repo: str, file: str, revision: str, flag: str) -> DataFile:
    """A file of a hub data set, downloaded where it is not in the cache."""
    import huggingface_hub
    from huggingface_hub import errors

    huggingface_hub.utils.logging.set_verbosity_error()
    where = f"{repo}:{file}@{revision}"
    try:
        path = Path(huggingface_hub.hf_hub_download(repo, file, repo_type="dataset", revision=revision))
    except errors.GatedRepoError:
        say = f"expected access to {where}, which is gated: accept its terms on its page, then run hf auth login"
    except errors.RevisionNotFoundError:
        say = f"expected a commit of {repo}, got {revision!r}: name one that its page lists, or leave out @COMMIT"
    except errors.EntryNotFoundError as error:
        # the hub's answer of a file that is not there; without network it is a LocalEntryNotFoundError
        if isinstance(error, errors.LocalEntryNotFoundError):
            say = offline(where, "")
        else:
            say = f"expected a file of {repo} at {revision}, got {file!r}: see its page for the files it has"
    except errors.RepositoryNotFoundError:
        say = f"expected a hub data set, got {repo!r}: check the name, or run hf auth login where it is private"
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError) as error:
        say = offline(where, error)
    except errors.HFValidationError as error:
        say = f"expected OWNER/NAME:FILE@COMMIT, got {where!r}: {str(error).splitlines()[0]}"
    else:
        return DataFile(name, path, f"{repo}:{file}", path.parts[-1 - len(Path(file).parts)])
    raise UsageError(f"--{flag}: {say}")


def offline(where: str, cause: object) -> str:
    """What to do without the hub, and what it said."""
    first = str(cause).strip().partition("\n")[0][:120]
    return (
        f"expected {where} from the hub, which cannot be reached, and it is not in the cache: connect, or give the "
        "path of a copy"
    ) + (f" ({first})" if first else "")


def rows_of(file: DataFile, flag: str) -> Iterator[Row]:
    """The rows of a parquet or JSONL file, in order. Raises UsageError where it is damaged or has none."""
    read = {".parquet": parquet_rows, ".jsonl": json_rows, ".json": json_rows}.get(file.path.suffix)
    if read is None:
        raise UsageError(f"--{flag}: expected a .parquet or .jsonl file, got {file.source!r}: convert it")
    count = 0
    try:
        for row in read(file.path):
            yield row
            count += 1
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise UsageError(
            f"--{flag}: {file.source}: expected rows of problems, got a damaged file at row {count + 1} ({cause}): "
            "fetch or write it again"
        ) from None
    if count == 0:
        raise UsageError(f"--{flag}: {file.source}: expected problems, got a file without rows: fetch it again")


def parquet_rows(path: Path) -> Iterator[Row]:
    """Batch by batch: a file of 1.8 million rows is never held whole."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS):
            yield from batch.to_pylist()


def json_rows(path: Path) -> Iterator[Row]:
    """A JSON object per line; empty lines do not count."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"a {type(row).__name__} and no object")
                yield row
