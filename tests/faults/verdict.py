"""Whether a run that met a fault ended as the one that met none."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.schema import Config
from tests.faults.forked import Ended, forked, going_on
from tests.faults.writes import Fault
from tests.harness.runs import read_json

SURVIVED, REFUSED = "survived bit-identically", "refused in words"
OF_THE_MACHINE = "environment.json", "resumes.jsonl"  # when and how the run was started


class Truth(NamedTuple):
    """A run that met no fault."""

    config: Config
    run: Path
    writes: list[str]  # what it wrote, operation by operation


def struck(truth: Truth, folder: Path, fault: Fault, half: Path | None = None) -> tuple[Ended, str]:
    """How a run from its start, or on from its half, ended under the fault; the verdict once it was carried on."""
    folder.mkdir()
    if half:
        shutil.copytree(half, folder / "run")
    go_on = going_on(truth.config, folder / "run")
    ended = forked(go_on, folder / "struck", fault)
    broken = broken_checkpoints(folder / "run")
    ending = broken or verdict(folder / "run", truth.run, forked(go_on, folder / "log"))
    shutil.rmtree(folder)
    return ended, ending


def lost(endings: Mapping[str, str]) -> dict[str, str]:
    """The cases that neither survived nor were refused, and why."""
    return {case: ending for case, ending in endings.items() if ending not in (SURVIVED, REFUSED)}


def verdict(run: Path, truth: Path, ended: Ended, apart_from: str | None = None, may_be_refused: bool = False) -> str:
    """SURVIVED, REFUSED where it may be, or what is wrong; one file may differ."""
    lines = [line for line in ended.printed.splitlines() if not line.startswith(("note: ", "resuming ", "step "))]
    if may_be_refused and ended.code == 2 and len(lines) == 1 and lines[0].startswith("error: "):
        return REFUSED
    if ended.code != 0:
        return f"exit code {ended.code}: {ended.printed[-2000:]}"
    ours, theirs = content(run), content(truth)
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if differing not in ([], [apart_from]):
        return f"differs in {', '.join(differing)}"
    unsaid = [
        name for name in not_as_recorded(run) if f"{run / name}: has changed since it was written" not in ended.printed
    ]
    if unsaid:
        return f"not what its hash says, without a word: {', '.join(unsaid)}"
    journal = run / "resumes.jsonl"
    for line in journal.read_bytes().splitlines() if journal.exists() else []:
        json.loads(line)
    leftovers = [str(file) for file in run.parent.rglob(".*") if file.suffix in (".tmp", ".unfinished")]
    return f"left {', '.join(leftovers)}" if leftovers else SURVIVED


def content(run: Path) -> dict[str, Any]:
    """What a run's folder holds by file, without what tells the time; checkpoints by their tensors."""
    files = {str(file.relative_to(run)): file for file in run.rglob("*") if file.is_file()}
    kept = {name: file.read_bytes() for name, file in files.items() if is_of_the_run(name)}
    lines = [json.loads(line) for line in files["metrics.jsonl"].read_bytes().splitlines()]
    records = files["records.sha256"].read_text(encoding="utf-8").splitlines()
    return kept | {
        "metrics.jsonl": [{key: line[key] for key in line if not key.startswith("time/")} for line in lines],
        "records.sha256": [line for line in records if not line.endswith(OF_THE_MACHINE)],
    }


def is_of_the_run(name: str) -> bool:
    """Whether two runs of one config agree in the file to the last bit."""
    top, _, below = name.partition("/")
    if top == "checkpoints" and below.startswith("step_"):
        return name.endswith(".safetensors")
    return top != "superseded" and name not in OF_THE_MACHINE


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def not_as_recorded(run: Path) -> list[str]:
    """The files that `sha256sum -c records.sha256` complains of."""
    pairs = [line.split("  ", 1) for line in (run / "records.sha256").read_text(encoding="utf-8").splitlines()]
    return [name for recorded, name in pairs if digest(run / name) != recorded]


def broken_checkpoints(run: Path) -> str | None:
    """The checkpoints that are in place and not whole."""
    broken = {
        str(manifest.parent)
        for manifest in run.glob("checkpoints/[!.]*/manifest.json")
        for name, recorded in read_json(manifest).items()
        if digest(manifest.parent / name) != recorded
    }
    return f"broken: {', '.join(sorted(broken))}" if broken else None
