"""report.json: from which files a report was made, by which versions, and what it consists of."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zlib import ZLIB_RUNTIME_VERSION

from matplotlib import ft2font

from analysis.errors import RecordsError
from analysis.records.run_files import read_json

FILE = "report.json"
SCHEMA_VERSION = 1
PACKAGES = ("matplotlib", "numpy", "pandas", "pillow", "scipy")
OF_STUDY = ("study.json", "claims.toml", "trials.parquet")
OF_RUN = ("config.json", "environment.json", "status.json", "metrics.jsonl")
FIELDS = {"folders": list, "options": dict, "versions": dict, "inputs": list, "outputs": dict}
TABLES = ("evals", "tokens", "rollouts")


def versions() -> dict[str, str]:
    """What the bytes of figures and the last digits of numbers depend on."""
    libraries = {"freetype": str(ft2font.__freetype_version__), "zlib": ZLIB_RUNTIME_VERSION}
    return {"python": platform.python_version(), **libraries} | {name: version(name) for name in PACKAGES}


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


def write_manifest(output: Path, folders: Sequence[Path], options: Mapping[str, Any], written: Sequence[Path]) -> None:
    """Write report.json; what an earlier report left and this one does not have is removed.

    options: what the report was asked for. written: the report's files.
    """
    outputs = {_name(path, output): sha256_of(path) for path in sorted(written)}
    if (output / FILE).is_file():
        for name in set(read_manifest(output)["outputs"]) - set(outputs):
            (output / name).unlink(missing_ok=True)
    content = {
        "schema_version": SCHEMA_VERSION,
        "folders": [os.path.relpath(folder, output).replace(os.sep, "/") for folder in folders],
        "options": dict(options),
        "versions": versions(),
        "code": code_commit(),
        "inputs": [inputs_of(folder) for folder in folders],
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
    if wrong or outside or len(content["folders"]) != len(content["inputs"]):
        what = f"no {wrong[0]}" if wrong else f"the output {outside[0]}" if outside else "folders without inputs"
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


def inputs_of(folder: Path) -> dict[str, str]:
    """The sha256 of every file of a study or run folder that a report may be made from, by its path in the folder."""
    return {_name(path, folder): sha256_of(path) for path in _inputs(folder)}


def sha256_of(path: Path) -> str:
    """The file's hash."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _inputs(folder: Path) -> Iterator[Path]:
    if (folder / "study.json").is_file():
        yield from _present(folder, OF_STUDY)
        # a study of several blocks has thousands of tables of rollouts, and is reported on without them
        tables = ("evals",) if "design" in read_json(folder / "study.json") else TABLES
        for run in sorted(path for path in (folder / "runs").glob("*") if path.is_dir()):
            yield from _of_run(run, tables)
        if (folder / "winners" / "study.json").is_file():
            yield from _inputs(folder / "winners")
    else:
        yield from _of_run(folder)


def _of_run(run: Path, tables: Sequence[str] = TABLES) -> Iterator[Path]:
    yield from _present(run, OF_RUN)
    for table in tables:
        yield from sorted((run / table).glob("step_*.parquet"))
    yield from sorted(file for file in (run / "microscope").glob("*") if file.suffix in (".json", ".parquet"))


def _is_ours(figure: Path) -> bool:
    """Whether a PNG says that this package drew it."""
    with figure.open("rb") as file:
        return b"python -m analysis figures" in file.read(1_000_000)


def _present(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    yield from (folder / name for name in names if (folder / name).is_file())


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
