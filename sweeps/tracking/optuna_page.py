"""Optuna's page of a search as one that only shows. The one module that imports optuna_dashboard, late."""

from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from harness import UsageError
from sweeps.study.folder import read_json
from sweeps.tracking.loopback import is_loopback
from sweeps.tracking.mlflow_address import sqlite_file

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def storage_of(study: Path) -> str:
    """Where Optuna keeps the search: the journal's path, or a database's URL."""
    described = read_json(study / "study.json")
    if not isinstance(described, dict) or described.get("kind") != "search":
        raise UsageError(f"expected the folder of a search, got {str(study)!r}: a comparison has no Optuna storage")
    storage = described.get("storage")
    if storage not in (None, "journal"):
        return str(storage)
    journal = study / "optuna.journal"
    if not journal.is_file():
        raise UsageError(f"expected {journal}, found none: the search has not begun, or the file was moved")
    return str(journal)


def optuna_page(storage: str) -> Application:
    """Optuna's page of a storage. Raises UsageError where that cannot be opened."""
    file = sqlite_file(storage)
    if file is not None and not file.is_file():  # opening it would make it
        raise UsageError(f"--storage: expected a database that exists, got {storage!r}: name the search's own")
    try:
        from optuna_dashboard import wsgi  # type: ignore[import-untyped]

        page: Application = wsgi(storage)
    except ImportError as error:
        raise UsageError(f"expected optuna-dashboard and the storage's driver, got: {error}: run make setup") from None
    except Exception as error:  # sqlalchemy raises whatever the driver does
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"expected a storage that can be opened, got: {words[0]}: give its URL as --storage") from None
    return page


def read_only(page: Application) -> Application:
    """The page without what changes something, and for no other site's name: a browser can be led here by one."""

    def answer(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        host = urlsplit(f"//{request.get('HTTP_HOST', '')}").hostname or ""
        if request["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Content-Type", "application/json")])
            return [b'{"reason": "this page only shows the search"}']
        if not is_loopback(host):
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"open this page as http://127.0.0.1\n"]
        return page(request, start_response)

    return answer


class Server(ThreadingMixIn, WSGIServer):
    """A thread per request, none of which holds up the end."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """Says nothing of each request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
