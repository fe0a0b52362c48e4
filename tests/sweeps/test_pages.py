import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeps.tracking.optuna_page import optuna_page, read_only
from tests.sweeps.commands import MLFLOW_WARNINGS, mirror, run
from tests.sweeps.mirrored_study import write, write_comparison, write_search

pytestmark = pytest.mark.filterwarnings(*MLFLOW_WARNINGS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
@pytest.mark.parametrize("command", [("ui",), ("dashboard", "anything")])
def test_only_loopback_addresses_are_served(
    command: tuple[str, ...], host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command, "--host", host) == 2
    error = capsys.readouterr().err
    assert "--host: expected a loopback address" in error
    assert "ssh -N -L" in error
    assert error.count("\n") == 1


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert run("ui", "--port", port) == 2
    assert f"expected a free port on 127.0.0.1, got {port}: Address already in use" in capsys.readouterr().err


def test_pages_of_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_comparison(tmp_path / "demo", ["dapo"], seeds=1, steps=1)
    write(tmp_path / "search" / "study.json", {"kind": "search", "storage": None})
    write(tmp_path / "gone" / "study.json", {"kind": "search", "storage": f"sqlite:///{tmp_path}/gone.db"})
    port = free_port()
    for arguments, words in (
        (("ui", "--runs", tmp_path), "run python -m sweeps mirror STUDY first"),
        (("ui", "--tracking_uri", "http://127.0.0.1:1"), "open that in a browser"),
        (("dashboard", tmp_path / "demo"), "a comparison has no Optuna storage"),
        (("dashboard", tmp_path / "search"), "optuna.journal, found none"),
        (("dashboard", tmp_path / "gone"), "expected a database that exists"),
    ):
        assert run(*arguments, "--port", port) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "gone.db").exists()


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search with a journal of three trials, mirrored."""
    import optuna

    study = tmp_path_factory.mktemp("runs") / "search"
    write_search(study, [{}, {}], seeds=1, steps=1)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(study / "optuna.journal")))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(storage=storage, study_name="fipo").optimize(lambda trial: trial.suggest_float("lr", 0, 1), 3)
    assert mirror(study) == 0
    return study


def ask(page: Any, path: str, method: str = "GET", host: str = "127.0.0.1:8080") -> tuple[str, bytes]:
    statuses: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:  # noqa: ARG001
        statuses.append(status)
        return lambda written: None  # noqa: ARG005

    request = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": host, "SERVER_NAME": "x", "SERVER_PORT": "1"}
    streams = {"wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "QUERY_STRING": "evaluator=ped_anova"}
    body = b"".join(page(request | streams, start_response))
    return statuses[0], body


def test_the_dashboard_shows_a_live_journal_and_changes_nothing(search: Path) -> None:
    journal = search / "optuna.journal"
    before, files = journal.read_bytes(), sorted(search.iterdir())
    page = read_only(optuna_page(str(journal)))
    assert json.loads(ask(page, "/api/studies")[1])["study_summaries"][0]["study_name"] == "fipo"
    status, body = ask(page, "/api/studies/0")
    assert (status, len(json.loads(body)["trials"])) == ("200 OK", 3)
    for path, method in (("/api/studies", "POST"), ("/api/studies/0", "DELETE"), ("/api/studies/0/note", "PUT")):
        assert ask(page, path, method)[0] == "405 Method Not Allowed"
    assert ask(page, "/api/studies", host="evil.example")[0] == "403 Forbidden"
    assert ask(page, "/api/studies", host="localhost")[0] == "200 OK"
    assert (journal.read_bytes(), sorted(search.iterdir())) == (before, files)


def get(port: int, path: str, posted: dict[str, Any] | None = None) -> tuple[int, bytes]:
    body = None if posted is None else json.dumps(posted).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def serving(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.sweeps.commands", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process: subprocess.Popen[str], word: str) -> bool:
    assert process.stdout is not None
    return any(word in line for line in process.stdout)


def ended(process: subprocess.Popen[str], number: signal.Signals) -> int:
    """The exit code after a signal; it must have had no children to leave behind."""
    assert psutil.Process(process.pid).children() == []
    process.send_signal(number)
    process.communicate(timeout=20)
    return process.returncode


def test_the_ui_serves_runs_and_nothing_that_could_run_something(search: Path) -> None:
    port = free_port()
    process = serving("ui", "--runs", search.parent, "--port", port)
    try:
        assert said(process, "/#/experiments")
        for _ in range(50):  # it says so as it begins to listen
            try:
                get(port, "/health")
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        status, body = get(port, "/api/2.0/mlflow/experiments/get-by-name?experiment_name=fipo-search")
        assert (status, json.loads(body)["experiment"]["name"]) == (200, "fipo-search")
        assert b"<html" in get(port, "/")[1].lower()
        for path in ("3.0/mlflow/assistant/config", "3.0/mlflow/scorers/list", "3.0/mlflow/gateway/secrets/list"):
            assert get(port, f"/ajax-api/{path}")[0] == 404
        made = {"name": "mine", "artifact_location": "file:///etc"}
        assert get(port, "/api/2.0/mlflow/experiments/create", made)[0] == 404
        runs = json.loads(get(port, "/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]})[1])["runs"]
        assert len(runs) == 5
        assert ended(process, signal.SIGTERM) == 0
    finally:
        process.kill()
        process.communicate()


def test_the_dashboard_ends_with_ctrl_c(search: Path) -> None:
    port = free_port()
    process = serving("dashboard", search, "--port", port)
    try:
        assert said(process, "/dashboard")
        assert get(port, "/api/studies")[0] == 200
        assert ended(process, signal.SIGINT) == 0
    finally:
        process.kill()
        process.communicate()
