"""Many runs: slots, starts, the demo and its figures, the MLflow mirror beside them. Wall seconds of real commands."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.table import Row

ROOT = Path(__file__).resolve().parents[1]
SEEDS, STEPS = 6, 10
# Says when everything is imported: how long such a process takes to end is none of it.
IMPORTS = "import harness.preload, time; print(time.time())"
COLD_STARTS = 3


@dataclass(frozen=True)
class Timed:
    """A run's own moments, seconds since the epoch."""

    recorded: float  # its settings were written down
    begins: float  # its first step does
    ended: float


def rows() -> Iterator[Row]:
    """Slots and starts, then the demo."""
    with tempfile.TemporaryDirectory() as folder:
        yield from slots(Path(folder))
        yield from cold_start(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        yield from demo(Path(folder))


def slots(folder: Path) -> Iterator[Row]:
    """The same runs in one slot and in two."""
    took, gaps = {}, []
    for count in (1, 2):
        print(f"{SEEDS} runs of {STEPS} steps in {count} slot{'s' * (count > 1)} ...", flush=True)
        study = folder / f"slots-{count}"
        flags = {"losses": "dapo", "seeds": SEEDS, "preset": "demo", "steps": STEPS, "slots": count, "study": study}
        command("sweeps", "compare", flags)
        runs = timed_runs(study)
        took[count] = runs[-1].ended - runs[0].recorded
        if count == 1:
            gaps = [after.begins - run.ended for run, after in pairwise(runs)]
    yield Row("runs an hour of two slots / of one", took[1] / took[2], "", at_least=1.8)
    yield Row("runs an hour of two slots", 3600 * SEEDS / took[2], "an hour")
    yield Row("from a run's end to its slot's next first step, median", median(gaps), "s", at_most=1.5)
    yield Row("from a run's end to its slot's next first step, longest", max(gaps), "s")
    yield from mirror(folder / "slots-2")


def mirror(study: Path) -> Iterator[Row]:
    """What copying a study to MLflow costs: of one that is there already, what is looked at again and again."""
    from sweeps.tracking.mirror import make_mirror, one_pass

    print("the MLflow mirror of these runs ...", flush=True)
    copying = make_mirror(study, f"sqlite:///{study}/mlflow.db")
    begin = time.process_time()
    one_pass(study, copying)
    seconds = time.process_time() - begin
    trained = sum(last_elapsed(run) for run in (study / "runs").iterdir())
    yield Row(
        "the MLflow mirror's CPU seconds / those of the runs it copies", 100 * seconds / trained, "%", at_most=5.0
    )


def cold_start(folder: Path) -> Iterator[Row]:
    """A run in a process of its own, to its first step, beside its imports alone."""
    print("a run in a process of its own, and its imports alone ...", flush=True)
    starts, imports = [], []
    for number in range(COLD_STARTS):
        path = folder / f"cold-{number}"
        begun = time.time()
        command("harness", "train", {"preset": "demo", "loss_type": "dapo", "steps": 1, "output_dir": path})
        starts.append(timed_run(path).begins - begun)
        begun = time.time()
        done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True, capture_output=True, text=True)
        imports.append(float(done.stdout) - begun)
    cold, alone = median(starts), median(imports)
    yield Row("a run in a process of its own, to its first step", cold, "s", floor=alone)
    yield Row("a run in a process of its own, to its first step, beyond its imports", cold - alone, "s", at_most=1.5)


def demo(folder: Path) -> Iterator[Row]:
    """The whole demo, warm start included, and its figures alone."""
    print("make demo, with nothing in the cache: minutes ...", flush=True)
    study = f"STUDY={folder / 'demo'}"
    yield Row(
        "make demo, warm start included", made(["demo", study], {"FIPO_HARNESS_CACHE": str(folder)}), "s", at_most=300
    )
    runs = f"RUNS={folder / 'demo'}"
    yield Row("make figures of its 23 runs", made(["figures", runs], {}), "s", at_most=20)


def made(words: list[str], extra: Mapping[str, str]) -> float:
    """Wall seconds of a make command."""
    begun = time.time()
    surroundings = os.environ | dict(extra)
    subprocess.run(["make", *words], cwd=ROOT, env=surroundings, stdout=subprocess.DEVNULL, check=True)
    return time.time() - begun


def command(package: str, name: str, flags: Mapping[str, object]) -> None:
    """Run a command of this project."""
    words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    subprocess.run([sys.executable, "-m", package, name, *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)


def timed_runs(study: Path) -> list[Timed]:
    """The study's runs in the order of their ends."""
    return sorted((timed_run(folder) for folder in (study / "runs").iterdir()), key=lambda run: run.ended)


def timed_run(folder: Path) -> Timed:
    """When the files were written that tell; the evaluation before any training stands before the first step."""
    names = ("config.json", "evals/step_000000.parquet", "status.json")
    return Timed(*((folder / name).stat().st_mtime for name in names))


def last_elapsed(folder: Path) -> float:
    """Seconds that a run says it has taken: on a core of its own, CPU seconds."""
    line = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    return float(json.loads(line)["time/elapsed_s"])
