"""The commands of the mirror and the pages: `python -m tests.sweeps.commands mirror STUDY`."""

import functools
import os
import sys
import tempfile
from pathlib import Path

from harness import OneLineParser, run_command
from sweeps.tracking.mirror import add_mirror
from sweeps.tracking.pages import add_dashboard, add_ui

MLFLOW_WARNINGS = (  # of its own code, and of the databases that it leaves open
    "ignore::DeprecationWarning:mlflow",
    "ignore::FutureWarning:mlflow",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


def start(arguments: list[str]) -> None:
    parser = OneLineParser(allow_abbrev=False, prog="python -m sweeps")
    subparsers = parser.add_subparsers(required=True)
    for add in (add_mirror, add_ui, add_dashboard):
        add(subparsers)
    options = parser.parse_args(arguments)
    options.start(options)


def run(*arguments: object) -> int:
    """The exit code; the environment, which is the tests' too, stays as it was."""
    before = dict(os.environ)
    try:
        return run_command(start, [str(argument) for argument in arguments])
    finally:
        os.environ.clear()
        os.environ.update(before)


def mirror(study: Path, *arguments: object) -> int:
    """The same of `mirror`, into a database that need not be made: its fifty migrations take seconds."""
    database = study.parent / "mlflow.db"
    if not database.exists():
        database.write_bytes(empty_database())
    return run("mirror", study, *arguments)


@functools.cache
def empty_database() -> bytes:
    """MLflow's database before anything is in it."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return Path(folder, "mlflow.db").read_bytes()


if __name__ == "__main__":
    sys.exit(run_command(start, sys.argv[1:]))
