"""The runs of a study, or the plain runs of a folder, in MLflow, brought up to what the folders say.

This module alone imports mlflow, and is imported late. Runs are found by their tags and carry how many lines of metrics
they hold, so that logging that was killed, made twice or begun anew in an empty database ends with the same content.
"""

import hashlib
import logging
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path

import requests
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness import HarnessError
from sweeps.tracking.folders import ARTIFACTS, metric_entries, newest_change, recorded, run_folders
from sweeps.tracking.log import with_driver, without_password

FAULTS = (MlflowException, requests.RequestException, SQLAlchemyError, OSError, ImportError, Timeout)
MOST_METRICS, MOST_PARAMS, MOST_RUNS = 900, 100, 50_000  # in one call
ARM, PATH, BEGUN, LINES, FILES = "arm", "fipo.path", "fipo.begun", "fipo.lines", "fipo.files"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # without it the page opens for agents and traces
LOCK_S = 120


class Store:
    """The runs of one study, or of one folder of plain runs, at an address."""

    def __init__(self, place: Path, uri: str) -> None:
        self.place, self.uri, self.seen = place, uri, (0, -1)  # the newest change that was logged

    def update(self) -> int:
        """Log what is missing; the number of runs. Raises HarnessError where MLflow or a folder cannot be read."""
        with reached(self.uri), FileLock(self.place / ".track.lock", timeout=LOCK_S):  # two at once would double runs
            newest, runs, faults = newest_change(self.place), run_folders(self.place), list[str]()
            if newest == self.seen:
                return len(runs)
            self.client = client_of(self.uri)
            self.experiment_id = self.experiment()
            found = self.client.search_runs([self.experiment_id], max_results=MOST_RUNS)
            known = {run.data.tags[PATH]: run for run in found if PATH in run.data.tags}
            if (self.place / "study.json").is_file():
                self.log_study(known.get("."))
            for folder in runs:
                try:
                    self.log(folder, known.get(folder.relative_to(self.place).as_posix()))
                except HarnessError as error:
                    faults.append(str(error))
        if faults:
            raise HarnessError(f"{faults[0]} ({len(faults)} of {len(runs)} cannot be read; the others are logged)")
        self.seen = newest
        return len(runs)

    def experiment(self) -> str:
        """The id of the experiment: named like the study's folder, and where another has that name, its place too."""
        folder = self.place.resolve()
        tags = {"fipo.study": f"{platform.node()}:{folder}"}
        for name in (folder.name, f"{folder.name}-{hashlib.sha256(repr(tags).encode()).hexdigest()[:8]}"):
            self.name = name
            found = self.client.get_experiment_by_name(name)
            if found is None:
                is_server = self.uri.startswith(("http", "databricks"))
                local = None if is_server else (folder.parent / "mlartifacts" / name).as_uri()
                return str(self.client.create_experiment(name, local, {**tags, **KIND}))
            if tags.items() <= found.tags.items():
                return str(found.experiment_id)
        raise HarnessError(f"expected an experiment of this study's own, got {name!r} of another: rename it in MLflow")

    def log(self, folder: Path, run: Run | None) -> None:
        """Make one run say what its folder says: parameters, metrics, and its status last."""
        told = recorded(folder)
        if run and run.data.tags[BEGUN] != told.begun:  # its folder was set aside, and the run begun anew
            self.client.delete_run(run.info.run_id)
            run = None
        if run and told.ended_ms and (run.info.status, run.info.end_time) == (told.status, told.ended_ms):
            return  # its status was logged last
        if run is None:
            path = folder.relative_to(self.place).as_posix()
            name = path.replace("runs/", "")
            arm = {ARM: re.sub(r"-seed[0-9]+$", "", name)} if "/" in path else {}
            tags = {PATH: path, BEGUN: told.begun, **arm}
            run = self.client.create_run(self.experiment_id, told.started_ms, tags, name)
        missing = [Param(name, value) for name, value in told.params.items() if name not in run.data.params]
        for first in range(0, len(missing), MOST_PARAMS):
            self.client.log_batch(run.info.run_id, params=missing[first : first + MOST_PARAMS])
        lines = metric_entries(folder, told.started_ms)
        self.log_metrics(run, [[Metric(*point) for point in line] for line in lines])
        if told.ended_ms:
            self.client.set_terminated(run.info.run_id, told.status, told.ended_ms)
        else:
            self.client.update_run(run.info.run_id, told.status)

    def log_metrics(self, run: Run, lines: list[list[Metric]]) -> None:
        """The lines that the run does not hold, each call together with how many it holds then.

        MLflow stores tags after metrics, and takes a point that it has as that one: a kill in between costs nothing.
        """
        at_once = max(1, MOST_METRICS // max(map(len, lines), default=1))
        for first in range(int(run.data.tags.get(LINES, 0)), len(lines), at_once):
            metrics = list(chain.from_iterable(lines[first : first + at_once]))
            done = RunTag(LINES, str(min(first + at_once, len(lines))))
            self.client.log_batch(run.info.run_id, metrics=metrics, tags=[done])

    def log_study(self, run: Run | None) -> None:
        """A run for the study itself: its files, all of them whenever one has changed."""
        files = [file for name in ARTIFACTS for file in sorted(self.place.glob(name))]
        known = hashlib.sha256(repr([(file, file.stat().st_mtime_ns) for file in files]).encode()).hexdigest()
        if run and run.data.tags.get(FILES) == known:
            return
        run = run or self.client.create_run(self.experiment_id, tags={PATH: "."}, run_name=self.place.resolve().name)
        for file in files:
            self.client.log_artifact(run.info.run_id, str(file), "figures" if file.suffix == ".png" else None)
        self.client.set_tag(run.info.run_id, FILES, known)
        self.client.set_terminated(run.info.run_id)


def client_of(uri: str) -> MlflowClient:
    """MLflow at an address. A SQLite database is made where there is none, by one process: its migrations must not
    run concurrently.
    """
    for name, level in (("alembic", logging.WARNING), ("mlflow", logging.ERROR)):
        logging.getLogger(name).setLevel(level)  # what MLflow warns of is raised too, and said in one line
    file = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///"):
        file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file.with_name(f".{file.name}.lock"), timeout=LOCK_S)
    with lock if uri.startswith("sqlite:///") else nullcontext():
        return MlflowClient(with_driver(uri), with_driver(uri))


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
