"""Whether a run that met a fault ended as the one that met none."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.forked import Ended

SURVIVED, REFUSED, LOST = "survived bit-identically", "refused in words", "lost"
OF_THE_MACHINE = "environment.json", "resumes.jsonl"  # when and how the run was started


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


def not_as_recorded(run: Path) -> list[str]:
    """The files that `sha256sum -c records.sha256` complains of."""
    lines = (run / "records.sha256").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("  ", 1) for line in lines]
    return [name for digest, name in pairs if hashlib.sha256((run / name).read_bytes()).hexdigest() != digest]


def is_read(journal: Path) -> bool:
    """Whether each of its lines, where it exists, is JSON."""
    try:
        for line in journal.read_bytes().splitlines() if journal.exists() else []:
            json.loads(line)
    except ValueError:
        return False
    return True


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
    if not is_read(run / "resumes.jsonl"):
        return "resumes.jsonl cannot be read"
    leftovers = [str(file) for file in run.parent.rglob(".*") if file.suffix in (".tmp", ".unfinished")]
    return f"left {', '.join(leftovers)}" if leftovers else SURVIVED


class Toll:
    """How many faults of each kind ended how, and the story of those that were lost."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str]] = Counter()
        self.lost: list[str] = []

    def add(self, kind: str, case: str, ending: str) -> None:
        """Count one in; whatever is neither SURVIVED nor REFUSED is lost."""
        known = ending in (SURVIVED, REFUSED)
        self.ended[kind, ending if known else LOST] += 1
        if not known:
            self.lost.append(f"{kind}, {case}: {ending}")

    def check(self) -> None:
        """Nothing was lost."""
        assert not self.lost, "\n".join(self.lost)

    def table(self) -> list[str]:
        """Its lines."""
        heads = "injected", SURVIVED, REFUSED, LOST
        lines = [f"{'kind of fault':40} | {' | '.join(heads)}"]
        for kind in dict.fromkeys(kind for kind, _ in self.ended):
            counts = [self.ended[kind, head] for head in heads[1:]]
            cells = (f"{count:>{len(head)}}" for count, head in zip([sum(counts), *counts], heads, strict=True))
            lines.append(f"{kind:40} | {' | '.join(cells)}")
        return lines


TOLL = pytest.StashKey[Toll]()  # of all tests of a session
