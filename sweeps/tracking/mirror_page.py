"""MLflow's page in this process, as one that only shows runs; sweeps/tracking/pages.py imports it late.

MLflow 3.17.2 serves far more: an assistant with a shell, a gateway, jobs, unpickled scorers, and new experiments whose
artifacts are any folder at all. On a shared machine every user reaches the loopback address, so what the page does not
need to show runs is refused before MLflow sees it.
"""

import os
import re
import warnings
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from mlflow.environment_variables import _MLFLOW_SGI_NAME, MLFLOW_DEPLOYMENTS_TARGET
from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR
from mlflow.server.handlers import initialize_backend_stores

from sweeps.tracking.mirror_store import reached
from sweeps.tracking.mlflow_address import database_lock

NEEDED = "artifacts|datasets|experiments|logged-models|metrics|model-versions|registered-models|runs|server-info|traces"
API = r"/(ajax-)?api/[23]\.0/mlflow"
READ = re.compile(
    rf"/(health|version|get-artifact|static-files/.*)?|{API}/(({NEEDED})(/.*)?|ui-telemetry|gateway-proxy)"
)
ASKED = re.compile(rf"/graphql|{API}/({NEEDED})/search([-/]\w+)?")  # questions too long for an address
REFUSAL = b'{"error_code": "ENDPOINT_NOT_FOUND", "message": "this page shows runs and nothing else"}'

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def serve(uri: str, host: str, port: int, ready: Callable[[], None]) -> None:
    """Serve the runs of a database until a signal; `ready` is called when the page answers or is about to."""
    os.environ[BACKEND_STORE_URI_ENV_VAR] = uri
    os.environ.pop(MLFLOW_DEPLOYMENTS_TARGET.name, None)  # so that the gateway, asked by the page, says it has nothing
    os.environ[_MLFLOW_SGI_NAME.name] = "uvicorn"  # which of MLflow's two guards against foreign sites stands
    with database_lock(uri), reached(uri):
        initialize_backend_stores(uri, uri)
    warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")  # MLflow's own affair
    from mlflow.server.fastapi_app import app  # reads the environment as it is imported

    ready()
    uvicorn.run(only_served(app), host=host, port=port, log_level="error", timeout_graceful_shutdown=2)


def only_served(app: Application) -> Application:
    """The application for what the page needs to show runs; nothing else is there."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and only_shows(scope["method"], scope["path"])):
            await app(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 404, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})

    return answer


def only_shows(method: str, path: str) -> bool:
    """Whether a request asks for something to show, and changes nothing."""
    return bool((method in ("GET", "HEAD") and READ.fullmatch(path)) or (method == "POST" and ASKED.fullmatch(path)))
