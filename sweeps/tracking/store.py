"""The runs of a study, or the plain runs of a folder, in MLflow, brought up to what the folders say.

This module alone imports mlflow, and is imported late. Runs are found by their tags and carry how many lines of metrics
they hold, so that logging that was killed, made twice or begun anew in an empty database ends with the same content.
"""

import hashlib
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import requests
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness import HarnessError
from sweeps.tracking.addresses import with_driver, without_password
from sweeps.tracking.folders import Node, nodes_of

FAULTS = (MlflowException, requests.RequestException, SQLAlchemyError, OSError, ImportError, Timeout)
MOST_METRICS, MOST_PARAMS = 900, 100  # in one call
ARM, PATH, BEGUN, LINES, FILES = "arm", "fipo.path", "fipo.begun", "fipo.lines", "fipo.files"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # without it the page opens for agents and traces
LOCK_S = 120


class Store:
    """The runs of one study, or of one folder of plain runs, at an address. `seen` need no second look."""

    def __init__(self, study: Path, uri: str) -> None:
        self.study, self.uri, self.seen = study, with_driver(uri), dict[str, Node]()

    def update(self) -> int:
        """Log what is missing; the number of runs. Raises HarnessError where MLflow or a folder cannot be read."""
        with reached(self.uri), FileLock(self.study / ".track.lock", timeout=LOCK_S):  # two at once would double runs
            nodes, faults = nodes_of(self.study), list[str]()
            changed = [node for node in nodes if self.seen.get(node.path) != node]
            runs = self.connect() if changed else {}
            for node in changed:
                try:
                    self.log(node, runs.get(node.path))
                    self.seen[node.path] = node
                except HarnessError as error:
                    faults.append(str(error))
        if faults:
            raise HarnessError(f"{faults[0]} ({len(faults)} of {len(nodes)} cannot be read; the others are logged)")
        return len(nodes)

    def connect(self) -> dict[str, Run]:
        """Find or make the study's experiment; its runs by their path."""
        self.client = client_of(self.uri)
        self.experiment_id = self.experiment()
        found, page = dict[str, Run](), None
        while page != "":
            listed = self.client.search_runs([self.experiment_id], max_results=1000, page_token=page)
            found |= {run.data.tags[PATH]: run for run in listed if PATH in run.data.tags}
            page = listed.token or ""
        return found

    def experiment(self) -> str:
        """The id of the experiment: named like the study's folder, and where another has that name, its place too."""
        folder = self.study.resolve()
        place = {"fipo.study": f"{platform.node()}:{folder}"}
        for name in (folder.name, f"{folder.name}-{hashlib.sha256(repr(place).encode()).hexdigest()[:8]}"):
            self.name = name
            found = self.client.get_experiment_by_name(name)
            if found is None:
                is_server = self.uri.startswith(("http", "databricks"))
                local = None if is_server else (folder.parent / "mlartifacts" / name).as_uri()
                return str(self.client.create_experiment(name, local, {**place, **KIND}))
            if place.items() <= found.tags.items():
                return str(found.experiment_id)
        raise HarnessError(f"expected an experiment of this study's own, got {name!r} of another: rename it in MLflow")

    def log(self, node: Node, run: Run | None) -> None:
        """Make one run say what its folder says: parameters, metrics, files, and its status last."""
        if run and run.data.tags[BEGUN] != node.begun:  # its folder was set aside, and the run begun anew
            self.client.delete_run(run.info.run_id)
            run = None
        if run is None:
            name = self.study.resolve().name if node.path == "." else node.path.replace("runs/", "")
            tags = {PATH: node.path, BEGUN: node.begun, **({ARM: node.arm} if node.arm else {})}
            run = self.client.create_run(self.experiment_id, node.started_ms, tags, name)
        is_ended = node.ended_ms is not None and (run.info.status, run.info.end_time) == (node.status, node.ended_ms)
        if is_ended and not node.files:
            return  # its status was logged last
        missing = [Param(name, value) for name, value in node.params.items() if name not in run.data.params]
        for first in range(0, len(missing), MOST_PARAMS):
            self.client.log_batch(run.info.run_id, params=missing[first : first + MOST_PARAMS])
        self.log_metrics(run, node)
        self.log_files(run, node)
        if node.ended_ms is None:
            self.client.update_run(run.info.run_id, node.status)
        elif not is_ended:
            self.client.set_terminated(run.info.run_id, node.status, node.ended_ms)

    def log_metrics(self, run: Run, node: Node) -> None:
        """The lines that the run does not hold, each call together with how many it holds then.

        MLflow stores tags after metrics, and takes a point that it has as that one: a kill in between costs nothing.
        """
        entries, done = node.entries(), int(run.data.tags.get(LINES, 0))
        while done < len(entries):
            batch, first = list[Metric](), done
            while done < len(entries) and (done == first or len(batch) + len(entries[done]) <= MOST_METRICS):
                batch += [Metric(point.key, point.value, point.timestamp_ms, point.step) for point in entries[done]]
                done += 1
            self.client.log_batch(run.info.run_id, metrics=batch, tags=[RunTag(LINES, str(done))])

    def log_files(self, run: Run, node: Node) -> None:
        """The files, all of them whenever one has changed."""
        known = hashlib.sha256(repr(node.files).encode()).hexdigest()
        if node.files and run.data.tags.get(FILES) != known:
            for file, _ in node.files:
                self.client.log_artifact(run.info.run_id, str(file), "figures" if file.suffix == ".png" else None)
            self.client.set_tag(run.info.run_id, FILES, known)


def client_of(uri: str) -> MlflowClient:
    """MLflow at an address; its database is made where there is none."""
    for name, level in (("alembic", logging.WARNING), ("mlflow", logging.ERROR)):
        logging.getLogger(name).setLevel(level)  # what MLflow warns of is raised too, and said in one line
    with database_lock(uri):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def make_database(uri: str) -> None:
    """Make a database where there is none, as a server and others cannot at once. Raises HarnessError."""
    with reached(uri):
        client_of(with_driver(uri)).search_experiments(max_results=1)


def database_lock(uri: str) -> FileLock | nullcontext[None]:
    """Hold a SQLite database while it is made: its migrations must not run concurrently."""
    if not uri.startswith("sqlite:///"):
        return nullcontext()
    file = Path(uri.removeprefix("sqlite:///"))
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file.with_name(f".{file.name}.lock"), timeout=LOCK_S)


@contextmanager
def reached(uri: str) -> Iterator[None]:
    """Turn whatever MLflow, its transport or its database raise into one line without a password."""
    try:
        yield
    except FAULTS as error:
        innermost: BaseException = error
        while (inner := innermost.__cause__ or innermost.__context__) is not None and " " in str(inner):
            innermost = inner
        words = (str(innermost).strip() or type(innermost).__name__).splitlines()[0][:200]
        shown = without_password(uri)
        raise HarnessError(f"MLflow at {shown} not reached: {words.replace(uri, shown)}") from None
