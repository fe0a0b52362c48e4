"""The runs of a study, or the plain runs of a folder, in MLflow, brought up to what the folders say.

They lie flat, since MLflow draws no charts of runs below others; what belongs together has the same tag, `arm`. Runs
are found by their tags and carry how many lines of metrics they hold, so that logging that was killed, made twice or
begun anew in an empty database ends with the same content. This module alone imports mlflow, and is imported late.
"""

import hashlib
import json
import logging
import math
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness import HarnessError, flatten
from sweeps.study.folder import evaluation_means, read_json, read_lines
from sweeps.tracking.log import BEGAN, with_driver, without_password

METRICS, STATUS = "metrics.jsonl", "status.json"
ARTIFACTS = "study.json", "claims.toml", "report/report.html", "report/verdict.json", "report/figures/*.png"
STATES = {"finished": "FINISHED", "preempted": "KILLED", "pruned": "KILLED", "infeasible": "FAILED", "failed": "FAILED"}
MEANS = {"correct": "accuracy", "response_tokens": "response_tokens_mean", "truncated": "truncated_share"}
LONGEST = 500  # characters of a parameter
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
        begun, status = str(read_json(folder / BEGAN)["started_at"]), folder / STATUS
        state = STATES.get(str((read_json(status) or {}).get("state")), "RUNNING")
        started_ms = int(datetime.fromisoformat(begun).timestamp() * 1000)
        ended_ms = None if state == "RUNNING" else int(status.stat().st_mtime * 1000)
        if run and run.data.tags[BEGUN] != begun:  # its folder was set aside, and the run begun anew
            self.client.delete_run(run.info.run_id)
            run = None
        if run and ended_ms and (run.info.status, run.info.end_time) == (state, ended_ms):
            return  # its status was logged last
        if run is None:
            path = folder.relative_to(self.place).as_posix()
            name = path.replace("runs/", "")
            arm = {ARM: re.sub(r"-seed[0-9]+$", "", name)} if "/" in path else {}
            tags = {PATH: path, BEGUN: begun, **arm}
            run = self.client.create_run(self.experiment_id, started_ms, tags, name)
        missing = [param for param in params_of(folder) if param.key not in run.data.params]
        for first in range(0, len(missing), MOST_PARAMS):
            self.client.log_batch(run.info.run_id, params=missing[first : first + MOST_PARAMS])
        self.log_metrics(run, lines_of(folder, started_ms))
        if ended_ms:
            self.client.set_terminated(run.info.run_id, state, ended_ms)
        else:
            self.client.update_run(run.info.run_id, state)

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


def run_folders(place: Path) -> list[Path]:
    """The folders of the runs that have begun: a study's own and those of a search's winners, or plain ones."""
    patterns = ("runs/*", "winners/runs/*") if (place / "study.json").is_file() else ("*",)
    return [file.parent for pattern in patterns for file in sorted(place.glob(f"{pattern}/{BEGAN}"))]


def newest_change(place: Path) -> tuple[int, int]:
    """How many files are logged, and the time in nanoseconds at which the last of them was written."""
    patterns = [f"{runs}*/{name}" for runs in ("", "runs/", "winners/runs/") for name in (METRICS, STATUS)]
    files = [file for pattern in (*patterns, *ARTIFACTS) for file in place.glob(pattern)]
    return len(files), max((file.stat().st_mtime_ns for file in files), default=0)


def params_of(folder: Path) -> list[Param]:
    """A run's settings."""
    settings = flatten((read_json(folder / "config.json") or {}).get("config", {}))
    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return [Param(name, text[:LONGEST]) for name, text in words.items()]


def lines_of(folder: Path, started_ms: int) -> list[list[Metric]]:
    """The points of each whole line of metrics.jsonl, with those of the evaluations that were made until then.

    Their times are the folder's: what is logged twice is the same point.
    """
    found = list[list[Metric]]()
    for line in read_lines(folder / METRICS) if (folder / METRICS).is_file() else ():
        step = int(line.pop("step"))
        time_ms = started_ms + int(1000 * line["time/elapsed_s"])
        points = metrics_of(line, step, time_ms)
        for done in (0, 1) if step == 0 else (step + 1,):
            means = evaluation_means(folder / "evals" / f"step_{done:06d}.parquet")
            points += metrics_of({f"eval/{MEANS[name]}": value for name, value in means.items()}, done, time_ms)
        found.append(points)
    return found


def metrics_of(values: Mapping[str, Any], step: int, time_ms: int) -> list[Metric]:
    """The values that are finite numbers, under names that MLflow takes: `avg@32` is avg_at_32."""
    return [
        Metric(re.sub(r"[^\w\-. :/]", "_", key.replace("@", "_at_"), flags=re.ASCII), float(value), time_ms, step)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]


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
