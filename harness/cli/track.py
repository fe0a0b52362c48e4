"""Logging to MLflow where an address is asked for: by a process of its own, once a command ends."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from harness.console import command, say

NICENESS = 10  # above the command's, so that logging slows down no run


def tracking_uri(given: str | None = None) -> str | None:
    """The address of MLflow that was asked for, by a flag or by $MLFLOW_TRACKING_URI; None for none."""
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or "none"
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
