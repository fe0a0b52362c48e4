"""A study logged to MLflow while it runs: by a process beside it, which reads the folders and costs the runs nothing.

The command neither waits for that process nor fails with it. `python -m sweeps track STUDY` makes up what is missing.
"""

import argparse
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import HarnessError
from sweeps.tracking.folders import study_nodes

PASS_S = 5.0  # between two passes
SHARE = 20  # a pass of 3 s is followed by a rest of a minute: never more than a twentieth of a core
LAST_PASS_S = 120  # after the study has ended
ENVIRONMENT = {  # unless the user set them: patient with slow servers, and nothing is sent elsewhere
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def add_tracking_uri(parser: argparse._ActionsContainer) -> None:
    """The flag for MLflow's address."""
    parser.add_argument(
        "--tracking_uri",
        metavar="URI",
        help="MLflow's: a server, a database such as sqlite:////home/me/mlflow.db, or none "
        "(default: $MLFLOW_TRACKING_URI, else mlflow.db and mlartifacts beside the study's folder)",
    )


def add_track(subparsers: Any) -> None:
    """Add the command `track`."""
    purpose = "log to MLflow what is missing there of a study"
    parser = subparsers.add_parser("track", allow_abbrev=False, help=purpose, description=f"{purpose}, as often as run")
    parser.add_argument("study", metavar="STUDY", help="folder of a search, a comparison or a study")
    add_tracking_uri(parser)
    parser.add_argument("--follow", action="store_true", help="go on until standard input ends")
    parser.set_defaults(start=track_command)


def asked_uri(options: argparse.Namespace, study: Path) -> str:
    """The address that was asked for, `none` for none, else that of the database beside the study's folder."""
    default = f"sqlite:///{study.resolve().parent / 'mlflow.db'}"
    return options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default


@contextmanager
def tracked(study: Path, options: argparse.Namespace, say: Callable[[str], None]) -> Iterator[None]:
    """Have the study logged while what is inside goes on."""
    uri = asked_uri(options, study)
    if uri == "none":
        yield
        return
    (study / "logs").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "sweeps", "track", str(study), "--follow"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}  # a password does not belong in a command line
    with (study / "logs" / "track.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield
    finally:
        if process.poll() is not None:
            say(f"note: not all is in MLflow (see {study}/logs/track.log): python -m sweeps track {study}")
        if process.stdin:
            process.stdin.close()  # by this it knows, and makes its last pass without us
        process.returncode = process.returncode or 0  # nobody waits for it


def track_command(options: argparse.Namespace) -> None:
    """Log what is missing, once or on and on."""
    study, started = Path(options.study), time.monotonic()
    if not options.follow:
        study_nodes(study)  # a folder that is no study is refused before anything is imported or written
    if asked_uri(options, study) == "none":
        print("nothing is logged: the tracking URI is none")
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from sweeps.tracking.store import Store  # this imports mlflow, which takes seconds

    log = Store(study, asked_uri(options, study)).update
    if options.follow:
        os.nice(10)
        follow(log, study)
    else:
        print(f"logged: {log()} runs of {study} in {time.monotonic() - started:.1f} s")


def follow(log: Callable[[], int], study: Path) -> None:
    """Pass after pass until standard input ends, and once more then, for at most LAST_PASS_S."""
    rest_s, has_failed = 0.0, False
    while not select.select([sys.stdin], [], [], rest_s)[0]:
        started = time.monotonic()
        try:
            if (study / "study.json").is_file():  # a study that begins has none yet
                log()
        except HarnessError as error:
            if not has_failed:
                print(f"note: {error}: tried again, and by python -m sweeps track {study}", file=sys.stderr, flush=True)
            has_failed = True
        rest_s = max(PASS_S, SHARE * (time.monotonic() - started))
    signal.alarm(LAST_PASS_S)
    log()
