"""`train`, `compare` and `report` as functions: each runs the command of its name and returns what it left.

The command runs in a process of its own, so its numbers are those of the shell, whatever this one has loaded or set.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from analysis.records.study import Study

SHOWN = {  # outcomes in the table of runs, and what a reader calls them
    "start_accuracy": "accuracy before",
    "final_accuracy": "accuracy after",
    "final_response_tokens": "tokens per answer",
}


@dataclass(frozen=True)
class Recorded:
    """The folder of a run or a study (docs/run_folder.md); its tables are read when they are first asked for."""

    path: Path

    @cached_property
    def metrics(self) -> "pd.DataFrame":
        """A row per run and step: run, arm, seed, and the keys of metrics.jsonl."""
        return self._study.metrics

    @cached_property
    def runs(self) -> "pd.DataFrame":
        """A row per run: run, arm, seed, state, reason, steps_done, and accuracy and length as a report has them."""
        from analysis.records.outcomes import outcomes

        scores = outcomes(self._study)[["run", *SHOWN]].drop_duplicates("run")
        return self._study.runs.merge(scores, how="left", on="run")

    @cached_property
    def _study(self) -> "Study":
        from analysis.records.study import read

        return read([self.path])

    def _repr_html_(self) -> str:
        table = self.runs[["run", "seed", "state", *SHOWN]].rename(columns=SHOWN)
        names = ", ".join(sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")))
        written = f"<p><code>{escape(str(self.path))}</code>: {escape(names)}</p>"
        return table.to_html(index=False, border=0, float_format="{:.3f}".format) + written


@dataclass(frozen=True)
class Report:
    """A report's page, and what was found, a sentence each."""

    path: Path
    findings: tuple[str, ...]

    def _repr_html_(self) -> str:
        figure = re.search(r"<img ([^>]*)>", self.path.read_text(encoding="utf-8"))
        image = f'<img style="max-width: 100%" {figure[1]}>' if figure else ""
        found = "".join(f"<li>{escape(finding)}</li>" for finding in self.findings)
        written = f"<p><code>{escape(str(self.path))}</code></p>"
        return f"<ul>{found}</ul>{image}{written}"


def train(**settings: Any) -> Recorded:
    """The run that `fipo-harness train` makes of the settings, which are the command's flags: `loss_type="fipo"`.

    Raises UsageError for what the command refuses and HarnessError if it fails, each with the command's sentence.
    """
    path = settings.pop("output_dir", None) or f"runs/{datetime.now():%Y%m%d-%H%M%S}-train"
    _run("train", output_dir=path, **settings)
    return Recorded(Path(path))


def compare(**settings: Any) -> Recorded:
    """The study that `fipo-harness compare` makes: `losses=["dapo", "fipo"], seeds=5`; otherwise as `train`.

    The same call with the same `study` goes on where it was interrupted.
    """
    path = settings.pop("study", None) or f"runs/compare-{datetime.now():%Y%m%d-%H%M%S}"
    _run("compare", study=path, **settings)
    return Recorded(Path(path))


def report(*folders: Recorded | str | Path, **options: Any) -> Report:
    """The report that `fipo-harness report` writes of a study, or of runs; otherwise as `train`."""
    words = [str(folder.path if isinstance(folder, Recorded) else folder) for folder in folders]
    *findings, path = _run("report", *words, **options)
    return Report(Path(path), tuple(findings))


def _run(command: str, *words: str, **flags: Any) -> list[str]:
    """Run a command, print its lines as they come, and hand them back."""
    from fipo_harness.__main__ import own_imports
    from harness import HarnessError, UsageError, spelled

    for name, value in flags.items():
        given = ",".join(map(str, value)) if isinstance(value, list | tuple) else spelled(value)
        words += (f"--{name}={given}",)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "fipo_harness", command, *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **own_imports(), "PYTHONIOENCODING": "utf-8"},
            encoding="utf-8",
        )
        try:
            with process:
                try:
                    lines = list(_printed(process))
                except KeyboardInterrupt:  # the process has it too and saves what it can; a second interrupt ends it
                    list(_printed(process))
                    raise
        finally:
            process.terminate()
            errors.seek(0)
            said = errors.read().splitlines()
            print(*said, sep="\n", end="\n" * bool(said), file=sys.stderr)
    if process.returncode:
        kind = UsageError if process.returncode == UsageError.exit_code else HarnessError
        raise kind(said[-1].removeprefix("error: ") if said else f"{command} ended with {process.returncode}")
    return lines


def _printed(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines of the process, each as it is printed, until the process has ended."""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        yield line.rstrip("\n")
