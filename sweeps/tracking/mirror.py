"""The command `mirror`: a study's folders copied to MLflow, once or for as long as the study goes on.

It reads the folders, so a slow, dead or absent MLflow costs a run nothing, and the copy can be made again at any time.
mlflow itself is imported by sweeps/tracking/mirror_store.py alone, when the first pass begins.
"""

import argparse
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness import HarnessError, UsageError, write_json
from sweeps.study.folder import read_json
from sweeps.tracking.mirror_tree import Node, study_nodes
from sweeps.tracking.mirror_trials import study_name
from sweeps.tracking.mlflow_address import PATIENCE, SAFETY, add_tracking_uri, has_server, tracking_uri

if TYPE_CHECKING:
    from sweeps.tracking.mirror_store import Mirror

PASS_S = 5.0  # between two passes
LONGEST_WAIT_S = 60.0  # between two tries while MLflow does not answer
SHARE = 20  # a pass of 3 s is followed by a rest of a minute: never more than a twentieth of a core
POLL_S = 0.5
NICE = 10


def add_mirror(subparsers: Any) -> None:
    """Add the command `mirror`."""
    parser = subparsers.add_parser(
        "mirror",
        allow_abbrev=False,
        help="copy a study's folders to MLflow",
        description="Copy a study's folders to MLflow: an experiment per study, its trials or arms, their seeds. "
        "Run it as often as you like: what is there already is not logged again.",
    )
    parser.add_argument("study", metavar="STUDY", help="folder of a search or a comparison")
    add_tracking_uri(parser, "STUDY/..")
    parser.add_argument("--follow", action="store_true", help="go on, every few seconds, until the parent process ends")
    parser.add_argument("--parent", type=int, metavar="PID", help="with --follow: which process that is")
    parser.add_argument("--until", metavar="FILE", help="with --follow: until this file exists")
    parser.set_defaults(start=mirror_command)


def mirror_command(options: argparse.Namespace) -> None:
    """Bring MLflow up to date with the study's folders, once or on and on."""
    study = Path(options.study)
    if options.until is not None and not options.follow:
        raise UsageError("--until: expected together with --follow, got it alone: add --follow")
    parent = options.parent or os.getppid()
    study_nodes(study)  # a folder that is no study is refused before anything is imported or written
    os.environ.update({name: os.environ.get(name, value) for name, value in PATIENCE.items()} | SAFETY)
    uri = tracking_uri(options, study.resolve().parent)
    if not options.follow:
        started = time.monotonic()
        nodes = one_pass(study, make_mirror(study, uri))
        print(f"mirrored: {len(nodes)} runs of {study} in {time.monotonic() - started:.1f} s")
        return
    os.nice(NICE)
    follow(study, uri, lambda: os.getppid() != parent or (options.until is not None and Path(options.until).exists()))


def follow(study: Path, uri: str, has_ended: Callable[[], bool]) -> None:
    """Pass after pass until the study has ended, and once more then. Raises HarnessError if that last one fails."""
    mirror, failures = make_mirror(study, uri), 0
    while not has_ended():
        started = time.monotonic()
        try:
            one_pass(study, mirror)
            failures = 0
        except HarnessError as error:
            failures += 1
            if failures == 1:
                print(f"note: {error}: will be retried; python -m sweeps mirror {study} rebuilds it", file=sys.stderr)
        backoff_s = min(PASS_S * 2**failures, LONGEST_WAIT_S)
        rest(max(backoff_s, SHARE * (time.monotonic() - started)), has_ended)
    one_pass(study, mirror)


def rest(seconds: float, has_ended: Callable[[], bool]) -> None:
    """Wait, but no longer than the study goes on."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not has_ended():
        time.sleep(POLL_S)


def make_mirror(study: Path, uri: str) -> "Mirror":
    """The mirror of the study; this imports mlflow, which takes seconds."""
    from sweeps.tracking.mirror_store import Mirror, Target

    artifacts = None if has_server(uri) else study.resolve().parent / "mlartifacts"
    name = study_name(study, read_json(study / "study.json"))
    return Mirror(Target(uri, artifacts, study_id(study), name))


def one_pass(study: Path, mirror: "Mirror") -> list[Node]:
    """Bring MLflow up to date; the nodes that it now has."""
    with exclusive(study):
        nodes = study_nodes(study)
        mirror.update(nodes)
    return nodes


def study_id(study: Path) -> str:
    """What the study is known by in MLflow: its own id, since folders are moved and other machines have equal paths."""
    file = study / ".mirror.json"
    with exclusive(study):
        known = read_json(file)
        if known is None:
            known = {"study_id": uuid.uuid4().hex}
            write_json(file, known)
    return str(known["study_id"])


@contextmanager
def exclusive(study: Path) -> Iterator[None]:
    """Hold the study's mirror: two passes at once would make each run twice."""
    try:
        lock = FileLock(study / ".mirror.lock", timeout=60)
        lock.acquire()
    except Timeout:
        raise HarnessError(f"{str(study)!r} is being mirrored by another process: wait for it, or stop it") from None
    except OSError as error:
        raise HarnessError(
            f"expected a study folder that can be written, got {str(study)!r}: {error.strerror}"
        ) from None
    try:
        yield
    finally:
        lock.release()
