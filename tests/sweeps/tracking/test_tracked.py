"""A command and the logger beside it: neither waits for the other."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.sweeps.tracking.study_folders import write_comparison
from tests.waiting import wait_until


@pytest.fixture
def mute_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


STUDY = """
import argparse, sys
from pathlib import Path
from sweeps.tracking.log import tracked
options = argparse.Namespace(tracking_uri=sys.argv[2])
with tracked(Path(sys.argv[1]), options, print):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def with_logger(study: Path, uri: str) -> subprocess.Popen[str]:
    """A command that tracks the study until it reads a line, and has begun to."""
    write_comparison(study, ["dapo"], seeds=1, steps=1)
    command = [sys.executable, "-c", STUDY, str(study), uri]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_command_does_not_wait_for_its_logger(tmp_path: Path, mute_server: int) -> None:
    process = with_logger(tmp_path / "demo", f"http://127.0.0.1:{mute_server}")
    (logger,) = psutil.Process(process.pid).children()
    try:
        said, _ = process.communicate("\n")
        assert (process.returncode, said) == (0, "")
        assert logger.is_running(), "the command waited for the logger, or ended it"
    finally:
        logger.kill()


def test_a_logger_that_died_is_said_when_the_study_has_ended(tmp_path: Path) -> None:
    process = with_logger(tmp_path / "demo", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (logger,) = psutil.Process(process.pid).children()
    logger.kill()
    wait_until(lambda: logger.status() == psutil.STATUS_ZOMBIE, "it lives on")
    said, _ = process.communicate("\n")
    study = tmp_path / "demo"
    assert process.returncode == 0
    assert said == f"note: not all is in MLflow (see {study}/logs/track.log): python -m sweeps track {study}\n"
