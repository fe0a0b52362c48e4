"""Finds and reads files of problems, local or from the Hugging Face hub at a pinned commit."""

import json
import re
import reprlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import UsageError, first_line

# repository, file and commit of each data set that can be named by a short name
SHIPPED: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("datasets.toml").read_text(encoding="utf-8")
)
HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+):(?P<file>[^@:]+)(?:@(?P<revision>\S+))?")

Row = dict[str, Any]


@dataclass(frozen=True)
class DataFile:
    """A local file of problems, and where it came from."""

    name: str  # used in records and figures
    path: Path
    source: str  # the path as given, or hub repository and file
    revision: str | None  # commit of a hub data set; None for a local file


def data_file(given: str, flag: str) -> DataFile:
    """The file that a flag's value names, downloaded if necessary. Raises UsageError if it cannot be found."""
    name, _, revision = given.partition("@")
    if known := SHIPPED.get(name):
        return hub_file(name, flag, **known | ({"revision": revision} if revision else {}))
    if (path := Path(given).expanduser()).is_file():
        return DataFile(path.stem, path, given, None)
    if hub := HUB.fullmatch(given):
        return hub_file(Path(hub["file"]).stem, flag, **hub.groupdict("main"))
    raise UsageError(
        f"--{flag}: expected one of {', '.join(SHIPPED)}, a hub file as OWNER/NAME:FILE@COMMIT, or a .parquet, "
        f".jsonl or .json file, got {given!r}, which is none of these: check the name or path"
    )


def hub_file(name: str, flag: str, repo: str, file: str, revision: str) -> DataFile:
    """A file of a hub data set, downloaded unless it is cached. Raises UsageError if that fails."""
    import huggingface_hub
    from huggingface_hub import errors

    huggingface_hub.utils.logging.set_verbosity_error()
    try:
        path = Path(huggingface_hub.hf_hub_download(repo, file, repo_type="dataset", revision=revision))
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError, OSError) as error:
        raise UsageError(
            f"--{flag}: expected {repo}:{file}@{revision} from the hub or its cache, got {type(error).__name__}: check "
            "the names on the hub's page, run hf auth login for gated or private data, or give the path of a copy"
        ) from None
    return DataFile(name, path, f"{repo}:{file}", path.parts[-1 - len(Path(file).parts)])


def rows_of(file: DataFile, flag: str) -> Iterator[Row]:
    """The rows of a parquet or JSON file, in order. Raises UsageError if it is damaged or empty."""
    read = {".parquet": parquet_rows, ".jsonl": json_rows, ".json": json_rows}.get(file.path.suffix.lower())
    if read is None:
        raise UsageError(
            f"--{flag}: expected a .parquet, .jsonl or .json file, got {file.source!r}: unpack or convert it"
        )
    count = 0
    try:
        for count, row in enumerate(read(file.path), start=1):  # noqa: B007 - the error names the row after it
            yield row
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"--{flag}: {file.source}: expected rows of problems, got a damaged file at row {count + 1} "
            f"({first_line(error):.160}): download or write it again"
        ) from None
    if count == 0:
        raise UsageError(f"--{flag}: {file.source}: expected problems, got a file without rows: download it again")


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows, read in batches (files may have millions). A float32 becomes its shortest decimal, such as 0.1."""
    with pq.ParquetFile(path) as file:
        texts, doubles = (
            pa.schema([with_floats(field, as_) for field in file.schema_arrow]) for as_ in (pa.string(), pa.float64())
        )
        for batch in file.iter_batches():
            yield from batch.cast(texts).cast(doubles).to_pylist()


def with_floats(field: pa.Field, as_: pa.DataType) -> pa.Field:
    """The field with type `as_` in place of float32, also inside structs."""
    if pa.types.is_struct(field.type):
        return field.with_type(pa.struct([with_floats(inner, as_) for inner in field.type.fields]))
    return field.with_type(as_) if pa.types.is_float32(field.type) else field


def json_rows(path: Path) -> Iterator[Row]:
    """The objects of one array, or one per line.

    Bytes that are not UTF-8 become surrogates, so that an error can name their row and column.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = (line for line in file if line.strip())
        first = next(lines, "")
        if first.lstrip().startswith("["):
            file.seek(0)
            rows = json.load(file)
        else:
            rows = map(json.loads, chain(filter(None, [first]), lines))
        for row in rows:
            if not isinstance(row, dict):
                raise ValueError(f"a {type(row).__name__} instead of an object")
            yield row


def text_of(value: Any, column: str) -> str:
    """A value as text; a list with one element counts as that element. Empty for null, NaN and infinities.

    A number has no exponent and no trailing zeros: 72.0 becomes 72, because a null in a column of integers turns them
    all into floats. Raises ValueError if the value is neither text nor a number, or cannot be encoded.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == []:
        return ""
    if isinstance(value, str):
        return "" if value.strip().lower() == "nan" else encodable(value, column)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"expected one text or number in {column}, got {reprlib.repr(value)}: convert the column")
    exact = Decimal(str(value))
    text = f"{exact:f}" if exact.is_finite() else ""
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if exact == 0 else text


def encodable(text: str, column: str) -> str:
    """The text, unchanged. Raises ValueError if it holds a NUL or cannot be encoded as UTF-8."""
    if "\0" in text:
        raise ValueError(f"expected text in {column}, got a NUL character in it: remove it")
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        raise ValueError(
            f"expected text in {column}, got {text[fault.start]!a} in it, half of a surrogate pair or a byte that "
            "is not UTF-8: fix it"
        ) from None
    return text
