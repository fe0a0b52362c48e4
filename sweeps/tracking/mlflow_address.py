"""Which MLflow is meant, and how it is dealt with: patiently where it is slow, with nothing sent elsewhere."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from sweeps.tracking.addresses import with_driver

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # unless the user set them
SAFETY = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def add_tracking_uri(parser: argparse.ArgumentParser, folder: str) -> None:
    """The flag for MLflow's address, with its default in words."""
    parser.add_argument(
        "--tracking_uri",
        metavar="URI",
        help="MLflow's tracking URI: a server, or a database such as sqlite:////home/me/mlflow.db "
        f"(default: $MLFLOW_TRACKING_URI, else {folder}/mlflow.db, figures and settings in {folder}/mlartifacts)",
    )


def tracking_uri(options: argparse.Namespace, folder: Path) -> str:
    """The address that was asked for, else the SQLite database in the folder."""
    default = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
    return with_driver(str(options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default))


def has_server(uri: str) -> bool:
    """Whether a server answers at the address, which stores the artifacts, too."""
    return uri.partition(":")[0] in ("http", "https", "databricks")


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database, or None for another one."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@contextmanager
def database_lock(uri: str) -> Iterator[None]:
    """Hold a SQLite database while it is made; nothing for other addresses."""
    file = sqlite_file(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock"), timeout=60):
        yield
