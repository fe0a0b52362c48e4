"""MLflow's page in this process, without the parts that could run something; sweeps/pages.py imports it late.

MLflow 3.17.2 serves far more than runs: an assistant with a shell, a gateway, jobs, scorers that are unpickled. On a
shared machine every user reaches the loopback address, so what the page does not need is refused before MLflow sees it.
"""

import os
import re
import warnings
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from mlflow.environment_variables import _MLFLOW_SGI_NAME
from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR
from mlflow.server.handlers import initialize_backend_stores

from sweeps.mirror_store import reached
from sweeps.mlflow_address import database_lock

NEEDED = (
    "artifacts|datasets|experiments|logged-models|metrics|model-versions|registered-models|runs|server-info|traces"
    "|ui-telemetry"  # which answers that it is off
)
SERVED = re.compile(
    r"/(health|version|graphql|get-artifact|static-files/.*)?"
    rf"|/(ajax-)?api/[23]\.0/mlflow/({NEEDED})(/.*)?"
)
REFUSAL = b'{"error_code": "ENDPOINT_NOT_FOUND", "message": "this page shows runs and nothing else"}'

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def serve(uri: str, host: str, port: int, ready: Callable[[], None]) -> None:
    """Serve the runs of a database until a signal; `ready` is called when the page answers or is about to."""
    os.environ[BACKEND_STORE_URI_ENV_VAR] = uri
    os.environ[_MLFLOW_SGI_NAME.name] = "uvicorn"  # which of MLflow's two guards against foreign sites stands
    with database_lock(uri), reached(uri):
        initialize_backend_stores(uri, uri)
    warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")  # MLflow's own affair
    from mlflow.server.fastapi_app import app  # reads the environment as it is imported

    ready()
    uvicorn.run(only_served(app), host=host, port=port, log_level="error", timeout_graceful_shutdown=2)


def only_served(app: Application) -> Application:
    """The application for the paths that the page needs; no other is there."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and SERVED.fullmatch(scope["path"])):
            await app(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 404, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})

    return answer
