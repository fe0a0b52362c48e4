"""One try at a planned run: its process, what it has recorded, and its last words."""

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import REASON_FILE
from sweeps.study.folder import PlannedRun, set_aside
from sweeps.workers.sessions import Session, start_session

STARTED = "$ python -m harness "  # begins the line that stands before what a process prints


@dataclass(frozen=True, eq=False)
class Attempt:
    """A run's process, or what became of it."""

    run: PlannedRun
    process: Session

    @property
    def failure(self) -> str | None:
        """Why it failed, in its own last words; None while it goes on or where it finished."""
        code = self.process.poll()
        if code in (None, 0):
            return None
        if code < 0:
            return f"killed by {signal.Signals(-code).name} (out of memory, if nobody did it)"
        return last_words(self.run) or f"exit code {code} without a word"


def start(run: PlannedRun, extra: Mapping[str, str]) -> Attempt:
    """Start or resume the run, its output going to the run's log."""
    if run.can_be_resumed:
        arguments = ["resume", str(run.folder)]
    else:
        set_aside(run.folder, run.study)  # what a failed attempt left
        arguments = ["train", "--config", str(run.config_file), "--output_dir", str(run.folder)]
    run.log.parent.mkdir(exist_ok=True)
    run.reason_file.write_text(" " * 16, encoding="utf-8")  # room for a code, whatever becomes of the disk
    extra = {**extra, REASON_FILE: str(run.reason_file.absolute())}
    with run.log.open("ab") as log:  # what an earlier attempt said stays above
        log.write(f"{STARTED}{' '.join(arguments)}\n".encode())
        log.flush()
        return Attempt(run, start_session(arguments, run.config.run.threads, log, extra))


def last_words(run: PlannedRun) -> str:
    """The last line that the run's latest process has printed."""
    try:
        text = run.log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = text.rpartition(STARTED)[2].strip().splitlines()
    return lines[-1] if lines[STARTED in text :] else ""


def latest_metrics(folder: Path) -> dict[str, Any] | None:
    """The last whole line of metrics.jsonl, or None."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return None
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is still being written
    try:
        metrics: dict[str, Any] | None = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return metrics
