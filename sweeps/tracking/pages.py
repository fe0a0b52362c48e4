"""The commands `ui` and `dashboard`: MLflow's page and Optuna's, for this machine alone.

Left out on purpose: other addresses than the loopback's. Neither page may be reachable without authentication; an SSH
tunnel has it, MLflow's own needs what is not installed here. What is shown is a copy, or cannot be changed there.
"""

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

from harness import UsageError
from sweeps.comparison import end_like_ctrl_c
from sweeps.tracking.loopback import LOOPBACK, address, check_address
from sweeps.tracking.mlflow_address import SAFETY, add_tracking_uri, has_server, sqlite_file, tracking_uri
from sweeps.tracking.optuna_page import Quiet, Server, optuna_page, read_only, storage_of


def add_ui(subparsers: Any) -> None:
    """Add the command `ui`."""
    parser = subparsers.add_parser(
        "ui",
        allow_abbrev=False,
        help="MLflow's page of the mirrored studies",
        description="MLflow's page of the mirrored studies, until Ctrl-C. It only shows: changes are refused. It "
        "answers on this machine alone; from another one: ssh -N -L 5000:127.0.0.1:5000 HOST",
    )
    parser.add_argument("--runs", default="runs", metavar="DIR", help="folder that the studies lie in (default: runs)")
    add_tracking_uri(parser, "DIR")
    parser.add_argument("--host", default=LOOPBACK, metavar="ADDRESS", help="a loopback address (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=5000, metavar="N", help="port (default: 5000)")
    parser.set_defaults(start=ui_command)


def add_dashboard(subparsers: Any) -> None:
    """Add the command `dashboard`."""
    parser = subparsers.add_parser(
        "dashboard",
        allow_abbrev=False,
        help="Optuna's page of a search",
        description="Optuna's page of a search, live, until Ctrl-C. It only shows: what would change the search's "
        "storage (notes, deleting, renaming) is refused. It answers on this machine alone; from another one: "
        "ssh -N -L 8080:127.0.0.1:8080 HOST",
    )
    parser.add_argument("study", metavar="STUDY", help="folder of a search")
    parser.add_argument(
        "--storage", metavar="URL", help="the search's storage with its password, which study.json does not hold"
    )
    parser.add_argument("--host", default=LOOPBACK, metavar="ADDRESS", help="a loopback address (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, metavar="N", help="port (default: 8080)")
    parser.set_defaults(start=dashboard_command)


def ui_command(options: argparse.Namespace) -> None:
    """Serve MLflow's page until it is interrupted."""
    end_like_ctrl_c()
    check_address(options.host, options.port)
    folder = Path(options.runs).resolve()
    uri = tracking_uri(options, folder)
    if has_server(uri):
        raise UsageError(f"--tracking_uri: expected a database, got a server, {uri}: open that in a browser")
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise UsageError(f"expected mirrored studies in {file}, found none: run python -m sweeps mirror STUDY first")
    os.environ.update(SAFETY)
    print("starting MLflow, which takes seconds", flush=True)
    from sweeps.tracking.mirror_page import serve

    page = f"http://{address(options.host, options.port)}/#/experiments?workflowType=machine_learning"
    with suppress(KeyboardInterrupt):
        serve(uri, options.host, options.port, lambda: print(f"MLflow: {page} (Ctrl-C ends it)", flush=True))


def dashboard_command(options: argparse.Namespace) -> None:
    """Serve Optuna's page until it is interrupted."""
    end_like_ctrl_c()
    check_address(options.host, options.port)
    application = read_only(optuna_page(options.storage or storage_of(Path(options.study))))
    with make_server(options.host, options.port, application, Server, Quiet) as server, suppress(KeyboardInterrupt):
        print(f"Optuna: http://{address(options.host, options.port)}/dashboard (Ctrl-C ends it)", flush=True)
        server.serve_forever()
