"""A report made again from its folders, and every difference named."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import isclose
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.errors import RecordsError
from analysis.report.build import rebuild
from analysis.report.manifest import code_commit, inputs_of, read_manifest, sha256_of, versions

AS_NUMBERS = (".csv", ".json")
OF_EITHER = ("study.json", "config.json")  # one of which a study or run has
NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")
TOLERANCE = 1e-8  # of numbers, where other versions of what computes them may have other last digits


@dataclass(frozen=True)
class Verified:
    """What was found: `differences`, none where the report holds; `notes` on versions; how many files were compared."""

    differences: list[str]
    notes: list[str]
    compared: int


def verify(report: Path, runs: Sequence[Path]) -> Verified:
    """Compare a report's inputs with its folders, its files with its manifest, and all with what is made anew.

    runs: where the folders are now; by default where the manifest says. Figures are compared byte for byte where the
    versions agree, else their data.
    """
    manifest = read_manifest(report)
    folders = _folders(manifest, report, runs)
    differences = [*_inputs(manifest, folders), *_written(manifest, report)]
    other = _other_versions(manifest["versions"])
    with TemporaryDirectory() as again:
        try:
            rebuild(folders, manifest["options"], Path(again))
        except RecordsError as error:
            return Verified([*differences, f"cannot be made again: {error}"], other, 0)
        names = [name for name in manifest["outputs"] if not other or name.endswith(AS_NUMBERS)]
        for name in names:
            differences += _compared(name, (report / name, Path(again) / name), TOLERANCE if other else 0.0)
    if differences and (code := code_commit()) != manifest.get("code"):
        other.append(f"made by analysis/ of commit {manifest.get('code')}, here is {code}")
    return Verified(list(dict.fromkeys(differences)), other, len(names))


def _folders(manifest: Mapping[str, Any], report: Path, runs: Sequence[Path]) -> list[Path]:
    """Where the report's folders are now."""
    folders = list(runs) or [(report / name).resolve() for name in manifest["folders"]]
    if len(folders) != len(manifest["folders"]):
        raise RecordsError(
            f"expected {len(manifest['folders'])} folders with --runs, got {len(folders)}: name each one"
        )
    if missing := [folder for folder in folders if not any((folder / name).is_file() for name in OF_EITHER)]:
        raise RecordsError(f"expected the report's study or run at {missing[0]}, got none: say where it is with --runs")
    return folders


def _inputs(manifest: Mapping[str, Any], folders: Sequence[Path]) -> Iterator[str]:
    for folder, recorded in zip(folders, manifest["inputs"], strict=True):
        present = inputs_of(folder)
        of = "" if "study.json" in recorded else f"{folder.name}/"
        for name in sorted({*recorded, *present}):
            if name not in present:
                yield f"{of}{name}: missing from {folder}"
            elif name not in recorded:
                yield f"{of}{name}: not there when the report was made"
            elif recorded[name] != present[name]:
                yield f"{of}{name}: changed since the report"


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


def _compared(name: str, files: tuple[Path, Path], tolerance: float) -> list[str]:
    """How the report's file differs from the one made anew, of tables and JSON line by line."""
    ours, again = files
    if not again.is_file():
        return [f"{name}: not among what is made anew"]
    if not ours.is_file() or ours.read_bytes() == again.read_bytes():
        return []
    if not name.endswith(AS_NUMBERS):
        return [f"{name}: other bytes when made anew"]
    lines = zip_longest(*(path.read_text(encoding="utf-8").splitlines() for path in files), fillvalue="nothing")
    return [
        f"{name}: line {number}: {mine.strip()} in the report, {anew.strip()} made anew"
        for number, (mine, anew) in enumerate(lines, start=1)
        if not _same(mine, anew, tolerance)
    ]


def _same(mine: str, anew: str, tolerance: float) -> bool:
    """Whether two lines are equal, their numbers up to `tolerance` relative to their size."""
    parts = [NUMBER.split(line) for line in (mine, anew)]  # words at even places, numbers at odd ones
    if mine == anew or tolerance == 0 or len(parts[0]) != len(parts[1]):
        return mine == anew
    numbers = zip(parts[0][1::2], parts[1][1::2], strict=True)
    near = all(isclose(float(a), float(b), rel_tol=tolerance, abs_tol=1e-12) for a, b in numbers)
    return near and parts[0][::2] == parts[1][::2]
