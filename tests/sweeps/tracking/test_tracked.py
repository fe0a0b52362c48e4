"""Commands and MLflow: none waits for it or fails with it; its page has everything without a further command."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps.tracking.log import track_later
from tests.sweeps.processes import has_ended
from tests.sweeps.tracking.study_folders import write_comparison, write_run
from tests.sweeps.tracking.test_track import empty_database, logged, pytestmark  # noqa: F401
from tests.waiting import wait_until


@pytest.fixture
def mute_server() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_command_does_not_wait_for_its_logger(tmp_path: Path, mute_server: int) -> None:
    write_comparison(tmp_path / "demo", ["dapo"], seeds=1, steps=1)
    before = set(psutil.Process().children())
    track_later(tmp_path / "demo", f"http://127.0.0.1:{mute_server}")
    (logger,) = set(psutil.Process().children()) - before
    assert logger.is_running()
    assert logger.nice() == min(os.nice(0) + 10, 19)
    logger.kill()


def test_nothing_is_started_where_no_address_is_asked_for(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    track_later(tmp_path, None)
    assert set(psutil.Process().children()) == before
    assert list(tmp_path.iterdir()) == []


def answer(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}/ajax-api/2.0/mlflow/{path}") as reply:
        return json.load(reply)


@pytest.mark.train
def test_the_page_has_all_studies_and_runs_and_links_to_their_charts(tmp_path: Path, port: int) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_database())
    write_run(tmp_path / "mine", "fipo", 2)
    write_comparison(tmp_path / "demo", ["dapo"], seeds=1, steps=1)
    address = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "sweeps", "ui", str(tmp_path), "--port", str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline() for _ in range(3)]
            assert lines[0].startswith(f"MLflow: {address} (Ctrl-C ends it)")
            for line, name in zip(lines[1:], (tmp_path.name, "demo"), strict=True):
                link = line.split(f"  {name}: ")[1]
                start, _, view = link.strip().partition("/runs?")
                assert view == "compareRunsMode=CHART&workflowType=machine_learning"
                found = answer(address, f"experiments/get?experiment_id={start.rpartition('/')[2]}")["experiment"]
                kind = {"key": "mlflow.experimentKind", "value": "custom_model_development"}
                assert (found["name"], kind in found["tags"]) == (name, True)
            write_run(tmp_path / "later", "dapo", 1)  # while the page is open
            wait_until(lambda: "later" in logged(tmp_path, tmp_path.name), "it was not logged")
            server = psutil.Process(process.pid).children(recursive=True)
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
    assert (process.returncode, "Traceback" in errors) == (0, False)
    wait_until(lambda: all(map(has_ended, server)), "the server was left behind")


def test_what_ui_cannot_serve_is_one_line_on_stderr_and_makes_nothing(
    tmp_path: Path, mute_server: int, port: int
) -> None:
    for words, said in (
        (["nowhere"], "expected a folder of studies and runs, got 'nowhere'"),
        ([str(tmp_path), "--port", str(mute_server)], f"--port: expected a free one, got {mute_server}"),
        ([str(tmp_path), "--port", "65536"], "--port: expected a free one, got 65536"),
        ([str(tmp_path), "--tracking_uri", f"http://127.0.0.1:{port}"], "Connection refused"),
    ):
        done = subprocess.run([sys.executable, "-m", "sweeps", "ui", *words], capture_output=True, text=True)
        assert (done.returncode, done.stdout, said in done.stderr, done.stderr.count("\n")) == (2, "", True, 1)
    assert list(tmp_path.iterdir()) == []
