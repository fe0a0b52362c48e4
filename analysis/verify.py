"""A report made again from its folders, and every difference named."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.errors import RecordsError
from analysis.manifest import FILE, inputs_of, sha256_of, versions
from analysis.run_files import read_json

Rebuild = Callable[[Sequence[Path], Mapping[str, Any], Path], None]
AS_NUMBERS = (".csv", ".json")
OF_EITHER = ("study.json", "config.json")  # one of which a study or run has


@dataclass(frozen=True)
class Verified:
    """What was found: `differences`, none where the report holds; `notes` on versions; how many files were compared."""

    differences: list[str]
    notes: list[str]
    compared: int


def verify(report: Path, runs: Sequence[Path], rebuild: Rebuild) -> Verified:
    """Compare a report's inputs with its folders, its files with its manifest, and all with what is made anew.

    runs: where the folders are now; by default where the manifest says. rebuild: writes the report of the folders with
    the manifest's options into a folder. Figures are compared byte for byte where the versions agree, else their data.
    """
    manifest = read_json(report / FILE, versioned=True)
    folders = list(runs) or [(report / name).resolve() for name in manifest["folders"]]
    if missing := [folder for folder in folders if not any((folder / name).is_file() for name in OF_EITHER)]:
        raise RecordsError(f"expected the report's study or run at {missing[0]}, got none: say where it is with --runs")
    differences = [*_inputs(manifest, folders), *_written(manifest, report)]
    other = _other_versions(manifest["versions"])
    with TemporaryDirectory() as again:
        try:
            rebuild(folders, manifest["options"], Path(again))
        except RecordsError as error:
            return Verified([*differences, f"cannot be made again: {error}"], other, 0)
        names = [name for name in manifest["outputs"] if not other or name.endswith(AS_NUMBERS)]
        for name in names:
            differences += _compared(name, report / name, Path(again) / name)
    return Verified(list(dict.fromkeys(differences)), other, len(names))


def _inputs(manifest: Mapping[str, Any], folders: Sequence[Path]) -> Iterator[str]:
    for folder, recorded in zip(folders, manifest["inputs"], strict=True):
        present = inputs_of(folder)
        gone = sorted(set(recorded) - set(present))
        runs = {_run(name) for name in recorded} - {_run(name) for name in present} - {""}
        yield from (f"{run}: the run is gone from {folder}" for run in sorted(runs))
        yield from (f"{name}: missing from {folder}" for name in gone if _run(name) not in runs)
        yield from (f"{name}: not there when the report was made" for name in sorted(set(present) - set(recorded)))
        same = set(recorded) & set(present)
        yield from (f"{name}: changed since the report" for name in sorted(same) if recorded[name] != present[name])


def _run(name: str) -> str:
    """The run folder that a file of a study lies in."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "runs" else ""


def _written(manifest: Mapping[str, Any], report: Path) -> Iterator[str]:
    for name, recorded in manifest["outputs"].items():
        if not (report / name).is_file():
            yield f"{name}: missing from the report"
        elif sha256_of(report / name) != recorded:
            yield f"{name}: changed after the report was written"


def _other_versions(recorded: Mapping[str, str]) -> list[str]:
    """The versions that are others here, so that bytes cannot be compared."""
    here = versions()
    return [
        f"made with {name} {recorded.get(name)}, here is {here[name]}: figures are compared by their data alone"
        for name in here
        if name != "python" and recorded.get(name) != here[name]
    ]


def _compared(name: str, ours: Path, again: Path) -> list[str]:
    if not again.is_file():
        return [f"{name}: not among what is made anew"]
    if not ours.is_file() or ours.read_bytes() == again.read_bytes():
        return []
    if name.endswith(".csv"):
        return [f"{name}: {_first_cell(ours, again)}"]
    if name.endswith(".json"):
        return [f"{name}: {_first_key(read_any(ours), read_any(again))}"]
    return [f"{name}: other bytes when made anew"]


def _first_cell(ours: Path, again: Path) -> str:
    """The first cell that differs, by row and column."""
    a, b = (list(csv.reader(io.StringIO(path.read_text(encoding="utf-8")))) for path in (ours, again))
    for number, (row, other) in enumerate(zip(a, b, strict=False), start=1):
        for place, (cell, anew) in enumerate(zip(row, other, strict=False)):
            if cell != anew:
                column = a[0][place] if place < len(a[0]) else f"column {place + 1}"
                return f"line {number}, {column}: {cell} in the report, {anew} made anew"
    return f"{len(a)} lines in the report, {len(b)} made anew"


def read_any(path: Path) -> Any:
    """The content of a JSON file, or its text where it is none."""
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _first_key(ours: Any, again: Any, place: str = "") -> str:
    """The first value that differs, by its keys."""
    if isinstance(ours, dict) and isinstance(again, dict):
        pairs = [(key, ours.get(key), again.get(key)) for key in {**ours, **again}]
    elif isinstance(ours, list) and isinstance(again, list) and len(ours) == len(again):
        pairs = [(str(number), *pair) for number, pair in enumerate(zip(ours, again, strict=True))]
    else:
        return f"{place or 'content'}: {ours!r} in the report, {again!r} made anew"
    key, mine, anew = next(pair for pair in pairs if pair[1] != pair[2])
    return _first_key(mine, anew, f"{place}.{key}" if place else str(key))
