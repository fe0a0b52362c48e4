"""report.json: from which folders a report was made, by which versions, and what it consists of."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.errors import RecordsError
from analysis.records.run_files import read_json

FILE = "report.json"
SCHEMA_VERSION = 1
PACKAGES = ("numpy", "pandas", "scipy")
FIELDS = {"folders": list, "options": dict, "versions": dict, "outputs": dict}


def versions() -> dict[str, str | None]:
    """What the numbers depend on besides the runs."""
    packages = {name: version(name) for name in PACKAGES}
    return {"analysis": code_commit(), "python": platform.python_version(), **packages}


def check_output(output: Path) -> None:
    """Raise RecordsError where the folder holds what no report wrote: nothing of anybody's is overwritten."""
    if output.exists() and not output.is_dir():
        raise RecordsError(f"expected a folder for the report, got the file {output}: name another --output_dir")
    names = {path.name for path in output.iterdir()} if output.is_dir() else set()
    drawn = names == {"figures"} and all(_is_ours(path) for path in (output / "figures").glob("*.png"))
    if FILE in names:
        read_manifest(output)
    elif names and not drawn:
        raise RecordsError(
            f"expected a new folder or an earlier report's, got {output}, which holds {sorted(names)[0]}: name another "
            "--output_dir"
        )


def check_folders(output: Path, folders: Sequence[Path]) -> None:
    """Raise RecordsError where `output` holds a report of other folders."""
    if (output / FILE).is_file():
        before = {(output / name).resolve() for name in read_manifest(output)["folders"]}
        if before != {folder.resolve() for folder in folders}:
            raise RecordsError(
                f"expected no report in {output} or one of these runs, got one of {sorted(before)[0].name}: name an "
                "--output_dir"
            )


def write_manifest(output: Path, folders: Sequence[Path], options: Mapping[str, Any], written: Sequence[Path]) -> None:
    """Write report.json; what an earlier report left and this one does not have is removed.

    options: what the report was asked for. written: the report's files.
    """
    outputs = {path.relative_to(output).as_posix(): sha256_of(path) for path in sorted(written)}
    if (output / FILE).is_file():
        for name in set(read_manifest(output)["outputs"]) - set(outputs):
            (output / name).unlink(missing_ok=True)
    content = {
        "schema_version": SCHEMA_VERSION,
        "folders": [os.path.relpath(folder, output).replace(os.sep, "/") for folder in folders],
        "options": dict(options),
        "versions": versions(),
        "outputs": outputs,
    }
    (output / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_manifest(report: Path) -> dict[str, Any]:
    """The content of a report's report.json. Raises RecordsError for one that `write_manifest` has not written.

    Its outputs may be removed by the next report, so none may lie outside of the report's folder.
    """
    content = read_json(report / FILE, versioned=True)
    wrong = [name for name, kind in FIELDS.items() if not isinstance(content.get(name), kind)]
    outside = [] if wrong else [n for n in content["outputs"] if Path(n).is_absolute() or ".." in Path(n).parts]
    if wrong or outside:
        what = f"no {wrong[0]}" if wrong else f"the output {outside[0]}"
        raise RecordsError(
            f"expected what a report wrote in {report / FILE}, got {what}: make the report anew elsewhere"
        )
    return content


def code_commit() -> str | None:
    """The last commit of this package, and whether files of it have changed since; None where git does not know it."""
    here = Path(__file__).parents[1]
    try:
        commit, changed = (
            subprocess.run(["git", "-C", here, *words, "--", "."], capture_output=True, text=True, check=True).stdout
            for words in (("log", "-1", "--format=%H"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return (commit.strip() + (" with changes" if changed else "")) if commit else None


def sha256_of(path: Path) -> str:
    """The file's hash."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_ours(figure: Path) -> bool:
    """Whether a PNG says that this package drew it."""
    with figure.open("rb") as file:
        return b"python -m analysis figures" in file.read(1_000_000)
