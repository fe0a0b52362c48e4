"""Folders logged to MLflow, after the fact: they hold everything, so no run waits for MLflow and none fails with it.

Where an address is asked for, commands log there as they end; `ui` (page.py) logs all folders while its page is open.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness import HarnessError, UsageError, command, say
from sweeps.tracking.folders import tracked_folders

NICENESS = 10  # above the command's, so that logging slows down no run
KINDS = ("http", "https", "sqlite", "postgres", "postgresql", "mysql", "mssql", "file", "databricks", "databricks-uc")
ENVIRONMENT = {  # unless the user set them: patient with slow servers, and nothing is sent elsewhere
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def add_tracking_uri(parser: argparse._ActionsContainer) -> None:
    """The flag for MLflow's address."""
    parser.add_argument(
        "--tracking_uri",
        metavar="URI",
        help="log to this MLflow too: a server, or a database such as sqlite:////home/me/mlflow.db; none: to no other "
        "than that of `ui` (default: $MLFLOW_TRACKING_URI, else none)",
    )


def add_track(subparsers: Any) -> None:
    """Add the command `track`."""
    purpose = "log to MLflow what is missing there"
    parser = subparsers.add_parser("track", allow_abbrev=False, help=purpose, description=f"{purpose}, as often as run")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a study, a run, or a folder of them, such as runs")
    add_tracking_uri(parser)
    parser.set_defaults(start=track_command)


def track_command(options: argparse.Namespace) -> None:
    """Log what is missing of every study and plain run in the folder."""
    folder, started = options.folder, time.monotonic()
    uri = asked_uri(options, folder)
    places = tracked_folders(folder)
    if not places:  # refused before anything is imported or written
        raise UsageError(f"expected a study, a run, or a folder of them, got {str(folder)!r}: name one")
    set_environment()
    from sweeps.tracking.store import Store  # this imports mlflow, which takes seconds

    faults, count = list[str](), 0
    for place in places:
        try:
            count += Store(place, uri).update()
        except HarnessError as error:
            faults.append(str(error))
    print(f"logged: {count} runs of {folder} in {time.monotonic() - started:.1f} s")
    if faults:
        raise HarnessError("; ".join(dict.fromkeys(faults)))


def tracking_uri(given: str | None = None) -> str | None:
    """The address of MLflow that was asked for, by a flag or by $MLFLOW_TRACKING_URI; None for none.

    Raises UsageError where MLflow knows no such kind of address.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or "none"
    kind, is_address, _ = uri.partition("://")
    if is_address and kind.partition("+")[0] not in KINDS:
        raise UsageError(
            f"--tracking_uri: expected a server (http://HOST:PORT), a database (sqlite:////home/me/mlflow.db) or none, "
            f"got {kind}://...: name another"
        )
    return None if uri == "none" else uri


def track_later(folder: Path, uri: str | None) -> None:
    """Have the folder logged, if there is an address. The command neither waits for that nor fails with it."""
    if uri is None:
        return
    log = folder.parent / "track.log"
    with suppress(OSError), log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sweeps", "track", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MLFLOW_TRACKING_URI": uri},  # a password does not belong in a command line
            start_new_session=True,
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, os.nice(0) + NICENESS)
        process.returncode = 0  # nobody waits for it
        say(f"logging to MLflow in the background (log: {log}); repeat with: {command('sweeps', 'track', folder)}")


def asked_uri(options: argparse.Namespace, folder: Path) -> str:
    """The address that was asked for, else that of the database beside the studies and runs."""
    is_one = (folder / "study.json").is_file() or (folder / "config.json").is_file()
    beside = folder.resolve().parent if is_one and not (folder / "mlflow.db").exists() else folder.resolve()
    return tracking_uri(options.tracking_uri) or f"sqlite:///{beside / 'mlflow.db'}"


def set_environment() -> None:
    """What MLflow reads as it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def with_driver(url: str) -> str:
    """The URL with the driver that is installed here: sqlalchemy's choice for PostgreSQL has changed."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def without_password(url: str) -> str:
    """The URL as it may be shown and written down."""
    return re.sub(r"(://[^:/?]*):[^/?]*@", r"\1@", re.sub(r"(?i)(password=)[^&]*", r"\1***", url))
