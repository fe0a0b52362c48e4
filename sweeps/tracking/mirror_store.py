"""One study's copy in MLflow, brought up to date. The one module that imports mlflow; mirror.py imports it late.

Runs are found by their tags and not by remembered ids, and each carries how far it was logged: so a mirror that was
killed, run twice or pointed at an empty database ends with the same content.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow.store.db.utils
import requests
from filelock import Timeout
from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness import HarnessError, UsageError
from sweeps.tracking.addresses import without_password
from sweeps.tracking.mirror_run import Content, Point, Stream, digests
from sweeps.tracking.mirror_tree import Node, Signature
from sweeps.tracking.mlflow_address import database_lock

FAULTS = (MlflowException, requests.RequestException, SQLAlchemyError, OSError, ImportError)  # a database's driver
MOST_METRICS = 900  # in one call; MLflow takes 1000 of everything together
MOST_PARAMS = 100
PARENT = "mlflow.parentRunId"  # MLflow's own
KIND = {"mlflow.experimentKind": "custom_model_development"}  # without it the page opens for agents and traces
PATH, DONE, FILES, STUDY = "fipo.path", "fipo.mirrored", "fipo.artifacts", "fipo.study_id"


class NotReached(HarnessError):
    """MLflow did not answer, or refused."""


@dataclass(frozen=True)
class Target:
    """Which study is copied to where."""

    tracking_uri: str
    artifacts: Path | None  # None where a server stores them
    study_id: str
    study_name: str


class Mirror:
    """The copy of one study. It remembers what it logged only to read no folder twice."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.client: MlflowClient | None = None
        self.seen: dict[str, Signature] = {}

    def update(self, nodes: Sequence[Node]) -> None:
        """Make MLflow say what the folders say. Raises NotReached, or HarnessError for a folder that is damaged."""
        if self.seen == {node.path: node.signature for node in nodes}:
            return
        faults = []
        with reached(self.target.tracking_uri):
            client = self.client = self.client or connect(self.target)
            experiment = experiment_of(client, self.target)
            runs = Runs(client, experiment.experiment_id)
            runs.delete_others({node.path for node in nodes})
            for node in nodes:
                if self.seen.get(node.path) == node.signature and runs.has(node):
                    continue
                try:
                    runs.update(node)
                except UsageError as error:
                    faults.append(str(error))
                else:
                    self.seen[node.path] = node.signature
        self.seen = {node.path: self.seen[node.path] for node in nodes if node.path in self.seen}
        if faults:
            raise HarnessError(
                f"{faults[0]} ({len(faults)} of {len(nodes)} could not be read; the others are mirrored)"
            )


class Runs:
    """The study's runs in MLflow, by their path in the study."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self.client, self.experiment_id = client, experiment_id
        self.found: dict[str, Run] = {}
        page = None
        while page != "":
            runs = client.search_runs(
                [experiment_id], run_view_type=ViewType.ACTIVE_ONLY, max_results=1000, page_token=page
            )
            for run in runs:
                self.found.setdefault(run.data.tags.get(PATH, ""), run)
            page = runs.token or ""

    def delete_others(self, paths: set[str]) -> None:
        """Delete what has no folder any more. A run that somebody else logged there has no path, and stays."""
        for path in self.found.keys() - paths - {""}:
            self.client.delete_run(self.found.pop(path).info.run_id)

    def has(self, node: Node) -> bool:
        """Whether the node's run is there, under its parent's."""
        run, parent = self.found.get(node.path), self.found.get(node.parent or "")
        above = parent.info.run_id if parent is not None else None
        return run is not None and run.data.tags.get(PARENT) == above

    def update(self, node: Node) -> None:
        """Make one run say what the node says; its status last."""
        content = node.read()
        hashes = {name: digests(stream) for name, stream in content.streams.items()}
        run = self.found.get(node.path)
        if run is not None and contradicts(run, content, hashes):
            # neither parameters nor numbers can be taken back: a run that was started again is another one
            self.client.delete_run(run.info.run_id)
            run = None
        run = run or self.create(node)
        self.found[node.path] = run
        self.log_facts(run, node, content)
        self.log_streams(run, content.streams, hashes)
        self.log_files(run, content.artifacts)
        self.set_status(run, node)

    def create(self, node: Node) -> Run:
        """A new run that can be found by its path."""
        return self.client.create_run(
            self.experiment_id, start_time=node.started_ms, tags={PATH: node.path}, run_name=node.name
        )

    def log_facts(self, run: Run, node: Node, content: Content) -> None:
        """Parameters and tags that are not there yet."""
        params = [Param(key, value) for key, value in content.params.items() if key not in run.data.params]
        wanted = dict(content.tags)
        if node.parent in self.found:
            wanted[PARENT] = self.found[node.parent].info.run_id
        tags = [RunTag(key, value) for key, value in wanted.items() if run.data.tags.get(key) != value]
        for first in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(run.info.run_id, params=params[first : first + MOST_PARAMS])
        if tags:
            self.client.log_batch(run.info.run_id, tags=tags)

    def log_streams(self, run: Run, streams: Mapping[str, Stream], hashes: Mapping[str, Sequence[str]]) -> None:
        """What came since the last time, each call together with the mark of how far it got."""
        marks = marks_of(run)
        batch: list[Point] = []
        for name, stream in streams.items():
            for number in range(marks.get(name, (0, ""))[0], len(stream)):
                if batch and len(batch) + len(stream[number]) > MOST_METRICS:
                    self.log_batch(run, batch, marks)
                    batch = []
                batch += stream[number]
                marks[name] = number + 1, hashes[name][number + 1]
        if marks != marks_of(run):
            self.log_batch(run, batch, marks)

    def log_batch(self, run: Run, points: Sequence[Point], marks: Mapping[str, tuple[int, str]]) -> None:
        """Points and mark in one call. MLflow stores tags last: a mark never runs ahead of its points."""
        metrics = [Metric(point.key, point.value, point.timestamp_ms, point.step) for point in points]
        self.client.log_batch(run.info.run_id, metrics=metrics, tags=[RunTag(DONE, json.dumps(marks))])

    def log_files(self, run: Run, artifacts: Sequence[tuple[Path, str]]) -> None:
        """The files, all of them whenever one is new."""
        digest = hashlib.sha256()
        for file, folder in artifacts:
            digest.update(f"{folder}/{file.name}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
        if not artifacts or run.data.tags.get(FILES) == digest.hexdigest():
            return
        for file, folder in artifacts:
            self.client.log_artifact(run.info.run_id, str(file), folder or None)
        self.client.set_tag(run.info.run_id, FILES, digest.hexdigest())

    def set_status(self, run: Run, node: Node) -> None:
        """Whether it goes on, and when it ended."""
        if (run.info.status, run.info.end_time) == (node.status, node.ended_ms):
            return
        if node.ended_ms is None:
            self.client.update_run(run.info.run_id, node.status)
        else:
            self.client.set_terminated(run.info.run_id, node.status, node.ended_ms)


def contradicts(run: Run, content: Content, hashes: Mapping[str, Sequence[str]]) -> bool:
    """Whether the run holds a parameter or a number that the folder does not."""
    if any(content.params.get(name) != value for name, value in run.data.params.items()):
        return True
    return any(
        count >= len(hashes.get(name, ())) or hashes[name][count] != digest
        for name, (count, digest) in marks_of(run).items()
    )


def marks_of(run: Run) -> dict[str, tuple[int, str]]:
    """How many entries of each stream the run holds, and their hash."""
    marks = json.loads(run.data.tags.get(DONE, "{}"))
    return {name: (int(count), str(digest)) for name, (count, digest) in marks.items()}


def connect(target: Target) -> MlflowClient:
    """A client; a SQLite database is made by one process at a time, since its migrations do not bear a race."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # what it warns of is raised, too, and said in one line
    mlflow.store.db.utils.MAX_RETRY_COUNT = 4  # for a dead PostgreSQL: 1.5 s of tries in place of two minutes
    with database_lock(target.tracking_uri):
        return MlflowClient(tracking_uri=target.tracking_uri, registry_uri=target.tracking_uri)


def experiment_of(client: MlflowClient, target: Target) -> Experiment:
    """The study's experiment, under the study's name or, where another study has that, with its id behind it."""
    for name in (target.study_name, f"{target.study_name}-{target.study_id[:8]}"):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            location = None if target.artifacts is None else (target.artifacts / name).resolve().as_uri()
            identity = client.create_experiment(name, artifact_location=location, tags={STUDY: target.study_id, **KIND})
            return client.get_experiment(identity)
        if experiment.tags.get(STUDY) == target.study_id:
            if experiment.lifecycle_stage != "active":
                client.restore_experiment(experiment.experiment_id)
            return experiment
    raise NotReached(f"expected an experiment of this study's own, got {name!r} of another: rename that one in MLflow")


@contextmanager
def reached(tracking_uri: str) -> Iterator[None]:
    """Turn whatever MLflow, its transport or its database raise into one line."""
    try:
        yield
    except Timeout as error:
        raise NotReached(f"MLflow's database is being made by another process that hangs: {error}") from None
    except FAULTS as error:
        shown = without_password(tracking_uri)
        if "mlflow db upgrade" in str(error):
            raise NotReached(
                f"expected the database of this version of MLflow at {shown}, got an older one: back it up, then run "
                f"python -m mlflow db upgrade {shown}, or name another with --tracking_uri"
            ) from None
        text = words_of(error).replace(tracking_uri, shown)
        raise NotReached(f"MLflow at {shown} not reached: {text}") from None


def words_of(error: BaseException) -> str:
    """What went wrong at the bottom of a chain of errors that wrap each other: its first sentence."""
    text = str(error)
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
        text = str(error) if " " in str(error) else text  # a KeyError's key says nothing
    text = (text.strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
    return text if len(text) <= 200 else f"{text[:200]}..."
