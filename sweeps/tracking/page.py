"""`ui`: MLflow's page of the studies and runs in a folder, which are logged before it opens and while it is open."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness import HarnessError, UsageError
from sweeps.tracking.folders import tracked_folders
from sweeps.tracking.log import add_tracking_uri, asked_uri, set_environment

REST_S = 5.0  # between two passes
CHARTS = "runs?compareRunsMode=CHART&workflowType=machine_learning"  # else the page opens for agents and traces


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
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    set_environment()
    with suppress(KeyboardInterrupt), served(uri, options.port) as (address, server):
        print(f"MLflow: {address} (Ctrl-C ends it); the charts of each study in {options.folder}:", flush=True)
        keep_logging(options.folder, uri, address, server)
        raise HarnessError("MLflow's server ended: see above")


@contextmanager
def served(uri: str, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes] | None]]:
    """The page's address and the server's process: none where the address is that of a server already."""
    if uri.startswith("http"):
        yield uri.rstrip("/"), None
        return
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        raise UsageError(f"--port: expected a free one, got {port}, which something listens on: --port {port + 1}")
    from sweeps.tracking.store import client_of, reached

    with reached(uri):
        client_of(uri)  # makes the database before the server would, which must not run concurrently
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--registry-store-uri", uri, "--uvicorn-opts", "--log-level warning"]
    quiet = {"MLFLOW_LOGGING_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore", **os.environ}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=quiet, start_new_session=True)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when the server answers. Raises HarnessError if it ends instead."""
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.1)
    raise HarnessError(f"MLflow's server ended with {process.returncode}: see above")


def keep_logging(root: Path, uri: str, address: str, server: subprocess.Popen[bytes] | None) -> None:
    """Pass after pass over the folders until the server ends; a link to each at its first, a fault said once."""
    from sweeps.tracking.store import Store

    stores, linked, faults = dict[Path, Store](), set[Path](), set[str]()
    while server is None or server.poll() is None:
        for folder in tracked_folders(root):
            store = stores.setdefault(folder, Store(folder, uri))
            try:
                runs = store.update()
            except HarnessError as error:
                if str(error) not in faults:
                    print(f"note: {error}", file=sys.stderr, flush=True)
                faults.add(str(error))
                continue
            if folder not in linked:
                print(
                    f"  {store.name} ({runs} runs): {address}/#/experiments/{store.experiment_id}/{CHARTS}", flush=True
                )
            linked.add(folder)
        with suppress(subprocess.TimeoutExpired):
            server.wait(REST_S) if server else time.sleep(REST_S)
