"""The MLflow mirror beside a search: a process of its own, so that a slow or dead server costs the search nothing."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LAST_PASS_S, GRACE_S = 120.0, 10.0


@contextmanager
def mirrored(study: Path, options: argparse.Namespace, say: Callable[[str], None]) -> Iterator[None]:
    """Mirror the study while what is inside goes on, and once more when it has ended; `none`: not at all."""
    if options.tracking_uri == "none":
        yield
        return
    arguments = [
        "mirror",
        str(study),
        "--follow",
        "--until",
        str(study / ".mirror-until"),
        "--parent",
        str(os.getpid()),
    ]
    if options.tracking_uri:
        arguments += ["--tracking_uri", options.tracking_uri]
    (study / ".mirror-until").unlink(missing_ok=True)
    (study / "logs").mkdir(exist_ok=True)
    with (study / "logs" / "mirror.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sweeps", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield
        (study / ".mirror-until").touch()
        wait_for(process, LAST_PASS_S)
        if process.poll() is None:
            say(f"note: MLflow is slow and was not waited for: python -m sweeps mirror {study} completes its copy")
    finally:
        (study / ".mirror-until").unlink(missing_ok=True)
        process.terminate()
        wait_for(process, GRACE_S)
        process.kill()
        process.wait()
    if process.returncode:
        words = study / "logs" / "mirror.log"
        say(f"note: the MLflow copy is not complete (see {words}): python -m sweeps mirror {study}")


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for the process, but no longer."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
