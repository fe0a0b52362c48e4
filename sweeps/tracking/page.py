"""`ui`: MLflow's page of the studies and runs in a folder, which are logged before it opens and while it is open."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness import HarnessError, UsageError
from sweeps.tracking.folders import tracked_folders
from sweeps.tracking.log import add_tracking_uri, asked_uri, set_environment

REST_S = 5.0  # between two passes
CHARTS = "runs?compareRunsMode=CHART&workflowType=machine_learning"  # else the page opens for agents and traces
Server = subprocess.Popen[bytes]


def add_ui(subparsers: Any) -> None:
    """Add the command `ui`."""
    purpose = "MLflow's page of all studies and runs in a folder, kept up to date while it is open"
    parser = subparsers.add_parser("ui", allow_abbrev=False, help=purpose, description=purpose)
    parser.add_argument("folder", type=Path, metavar="DIR", nargs="?", default=Path("runs"), help="(default: runs)")
    parser.add_argument("--port", type=int, default=5000, metavar="N", help="of this machine alone (default: 5000)")
    add_tracking_uri(parser)
    parser.set_defaults(start=ui_command)


def ui_command(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C, with a link to the charts of each study and of the plain runs."""
    if not options.folder.is_dir():
        raise UsageError(f"expected a folder of studies and runs, got {str(options.folder)!r}: train first, or name it")
    uri = asked_uri(options, options.folder)
    if not uri.startswith("http"):
        check_free(options.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    set_environment()
    is_server = uri.startswith("http")  # then its page is open already
    address = uri.rstrip("/") if is_server else f"http://127.0.0.1:{options.port}"
    server = None
    try:
        check_reached(uri)
        server = None if is_server else served(uri, options.port)
        wait_for(options.port, server)
        print(f"MLflow: {address} (Ctrl-C ends it); the charts of each study in {options.folder}:", flush=True)
        keep_logging(options.folder, uri, address, server)
    except KeyboardInterrupt:
        return
    finally:
        if server:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait()
    raise HarnessError(f"MLflow's server ended with {server.returncode if server else None}: see above")


def check_free(port: int) -> None:
    """Raise UsageError where no server can listen."""
    try:
        if not 0 < port < 65536:
            raise OSError(None, "ports are from 1 to 65535")
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise UsageError(f"--port: expected a free one, got {port} ({error.strerror}): name another") from None


def check_reached(uri: str) -> None:
    """Raise UsageError where there is no MLflow. A database is made before its server, since both at once cannot."""
    from sweeps.tracking.store import client_of, reached

    try:
        with reached(uri):
            client_of(uri).search_experiments(max_results=1)
    except HarnessError as error:
        raise UsageError(f"--tracking_uri: {error}: name another, or start it") from None


def served(uri: str, port: int) -> Server:
    """The process of a server of the database."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--registry-store-uri", uri, "--uvicorn-opts", "--log-level warning"]
    quiet = {"MLFLOW_LOGGING_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore", **os.environ}
    return Server(command, stdout=subprocess.DEVNULL, env=quiet, start_new_session=True)


def wait_for(port: int, server: Server | None) -> None:
    """Return when the server answers, or has ended."""
    while server and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.1)


def keep_logging(root: Path, uri: str, address: str, server: Server | None) -> None:
    """Pass after pass over the folders until the server ends; a link to each at its first, a fault said once."""
    from sweeps.tracking.store import Store

    stores, said = dict[Path, Store](), set[str]()
    while server is None or server.poll() is None:
        for folder in tracked_folders(root):
            store = stores.setdefault(folder, Store(folder, uri))
            try:
                store.update()
                line, stream = f"  {store.name}: {address}/#/experiments/{store.experiment_id}/{CHARTS}", sys.stdout
            except HarnessError as error:
                line, stream = f"note: {error}", sys.stderr
            if line not in said:
                print(line, file=stream, flush=True)
            said.add(line)
        with suppress(subprocess.TimeoutExpired):
            server.wait(REST_S) if server else time.sleep(REST_S)
