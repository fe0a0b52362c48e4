"""A report's data made again from its folders, and every file that differs named."""

import csv
from io import StringIO
from itertools import zip_longest
from pathlib import Path

from analysis.errors import RecordsError
from analysis.report.build import data_of
from analysis.report.files import Asked
from analysis.report.manifest import read_manifest, sha256_of, versions

DATA = (".csv", ".json")


def verify(report: Path, runs: list[Path]) -> tuple[list[str], int]:
    """How a report differs from what was written and from what its folders give; how many data files it has.

    runs: where the folders are now; by default where the report's manifest says. Page and figures are not drawn again:
    they must be as they were written, and the data that they show must be what the folders give.
    """
    manifest = read_manifest(report)
    folders = runs or [(report / name).resolve() for name in manifest["folders"]]
    if missing := [one for one in folders if not any((one / name).is_file() for name in ("study.json", "config.json"))]:
        raise RecordsError(f"expected the report's study or run at {missing[0]}, got none: say where it is with --runs")
    present = {name: report / name for name in manifest["outputs"] if (report / name).is_file()}
    found = [f"{name}: missing from the report" for name in manifest["outputs"] if name not in present]
    changed = [name for name, path in present.items() if sha256_of(path) != manifest["outputs"][name]]
    found += [f"{name}: changed after the report was written" for name in changed]
    anew = data_of(Asked(tuple(folders), **{"given": ""} | manifest["options"]))
    data = {name: path.read_text(encoding="utf-8") for name, path in present.items() if name.endswith(DATA)}
    found += [f"{name}: made anew and not in the report" for name in anew if name not in manifest["outputs"]]
    found += [_difference(name, text, anew.get(name)) for name, text in data.items() if text != anew.get(name)]
    if found:
        here = versions()
        others = [name for name in here if here[name] != manifest["versions"].get(name)]
        found += [f"made with {name} {manifest['versions'].get(name)}, here is {here[name]}" for name in others]
    return found, len(data)


def _difference(name: str, text: str, anew: str | None) -> str:
    """Where a file differs from the one made anew: of a table the first row and column."""
    if anew is None:
        return f"{name}: not among what is made anew"
    tables = [list(csv.reader(StringIO(content))) for content in (text, anew)]
    for number, (ours, theirs) in enumerate(zip_longest(*tables, fillvalue=[]), start=1):
        if name.endswith(".csv") and ours != theirs:
            cells = zip_longest(tables[1][0], ours, theirs, fillvalue="nothing")
            column, mine, new = next(cell for cell in cells if cell[1] != cell[2])
            return f"{name}: row {number}, column {column}: {mine} in the report, {new} made anew"
    return f"{name}: other content when made anew"
