"""`python -m analysis import`: sources on the command line -> run folders of a study."""

import argparse
import tomllib
from collections.abc import Callable
from fnmatch import fnmatchcase
from hashlib import file_digest
from pathlib import Path
from typing import Any

from analysis.errors import RecordsError
from analysis.imports.columns import chosen, lines_of, parse_columns
from analysis.imports.evaluations import read_csv, read_lm_eval, read_mlflow
from analysis.imports.runs import Named, Run, answer_rows, runs_of
from analysis.imports.sources import Source, flat, read_text
from analysis.imports.trainers import DUMPED, STEP, read_dumped, read_swift, read_trl, read_verl
from analysis.imports.write import check_study, write_runs
from analysis.records.run_files import read_json

READERS: dict[str, Callable[[Path], Source]] = {
    "csv": read_csv,
    "trl": read_trl,
    "swift": read_swift,
    "verl": read_verl,
    "verl-answers": read_dumped,
    "lm-eval": read_lm_eval,
}
BY_NAME = {  # ms-swift leaves a trainer_state.json too
    "logging.jsonl": "swift",
    "trainer_state.json": "trl",
    "meta.yaml": "mlflow",
    "samples_*.jsonl": "lm-eval",
    "results*.json": "lm-eval",
    "*.csv": "csv",
    "*.tsv": "csv",
    "*.db": "mlflow",
    "*.sqlite": "mlflow",
}
OF_ANSWERS = ("csv", "verl-answers", "lm-eval")


def import_runs(given: argparse.Namespace) -> list[str]:
    """Read every source, check all of it, then write; the lines to print. Raises RecordsError before it writes."""
    columns = parse_columns(given.columns)
    runs = [run for text in given.sources for run in _runs(text, given, columns)]
    keys = [(run.arm, run.seed) for run in runs if run.seed is not None]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise RecordsError(
            f"expected each run once, got {twice[0][0]} with seed {twice[0][1]} twice: see --arm and --seed"
        )
    check_study(given.study, runs, given.claims)
    written = write_runs(given.study, runs, given.claims)
    notes = dict.fromkeys(note for run in runs for note in run.about["notes"])
    return [*map(str, written), *notes, f"next: python -m analysis report {given.study}"]


def _runs(text: str, given: argparse.Namespace, columns: dict[str, str]) -> list[Run]:
    """The runs of one source, with the answers of --answers where it is one run."""
    path = Path(text)
    if "://" not in text and not path.exists():
        raise RecordsError(f"expected a file or folder as SOURCE, got {text}: no such thing is there")
    kind = given.format or ("mlflow" if "://" in text else kind_of(path))
    source = READERS[kind](path) if kind in READERS else read_mlflow(text)
    if not source.rows:
        raise RecordsError(f"expected logged rows in {text}, got none: is it the log, and of a run that began?")
    source.settings |= read_config(given.config, path)
    named, scale = (
        Named(path.name if path.is_dir() else path.stem, given.arm, given.seed, given.step),
        0.01 if given.percent else 1.0,
    )
    used = chosen(source, columns)
    lines = [line for line in lines_of(source, used, scale) if given.filter in (None, line.words.get("filter"))]
    scores = [line.values[name] for line in lines for name in ("accuracy", "training_accuracy") if name in line.values]
    if given.percent and 0 < max(scores, default=0.0) <= 0.01:
        most = f"{100 * max(scores):g} (a cell with % is divided by 100 anyway)"
        raise RecordsError(f"--percent: expected accuracies above 1 in {text}, got at most {most}: leave it out")
    runs = runs_of(source, lines, used, named)
    if given.answers and len(runs) > 1:
        raise RecordsError(f"expected one run in {text} with --answers, got {len(runs)}: import them one by one")
    for answers in given.answers:
        _add_answers(runs[0], source, Path(answers), given)
    for run in runs:
        run.about |= {"source": text, "sha256": {str(file): hashed(file) for file in source.files}}
    return runs


def _add_answers(run: Run, source: Source, path: Path, given: argparse.Namespace) -> None:
    """Held-out answers by question to a run whose log has means at most."""
    if not path.exists():
        raise RecordsError(f"expected a file or folder as --answers, got {path}: no such thing is there")
    if (kind := kind_of(path)) not in OF_ANSWERS:
        raise RecordsError(f"expected answers by question in {path}, got a log of the format {kind}: name it as SOURCE")
    found = READERS[kind](path)
    used = chosen(found, {})
    lines = [line for line in lines_of(found, used, 1.0) if given.filter in (None, line.words.get("filter"))]
    if not all("question" in line.words for line in lines):
        raise RecordsError(f"expected answers by question in {path}, got {found.kind} without: see docs/your-logs.md")
    run.answers += answer_rows(lines, given.step or run.last_step or 1)
    run.about["notes"] += found.notes
    source.files += found.files


def hashed(path: Path) -> str:
    """The sha256 of a file that was read."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def read_config(config: str | None, source: Path) -> dict[str, Any]:
    """Settings by dotted name from a file, or from the file of that name in the source's folder; none without.

    JSON, TOML, or lines `name: value`, whose indentation makes the levels, as YAML has them.
    """
    if config is None:
        return {}
    inside = source / config
    path = inside if inside.is_file() else Path(config)
    if path.suffix == ".json":
        return flat(read_json(path))
    if path.suffix == ".toml":
        try:
            return flat(tomllib.loads(read_text(path)))
        except tomllib.TOMLDecodeError as error:
            raise RecordsError(f"expected TOML in {path}, got something else ({error}): mend it") from None
    found, above = dict[str, Any](), list[tuple[int, str]]()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not (text := line.split(" #")[0].strip()) or text.startswith(("#", "- ", "---")):
            continue
        name, colon, value = text.partition(":")
        if not colon:
            raise RecordsError(
                f"expected `name: value` in line {number} of {path}, got {text[:40]!r}: give JSON or TOML"
            )
        depth = len(line) - len(line.lstrip())
        above = [*(one for one in above if one[0] < depth), (depth, name.strip())]
        if value.strip():
            found[".".join(one for _, one in above)] = value.strip().strip("'\"")
    return found


def kind_of(source: Path) -> str:
    """The format of a file or folder, by the names in it or by its lines. Raises RecordsError where it is none."""
    names = {path.name for path in source.rglob("*")} if source.is_dir() else {source.name}
    for name, kind in BY_NAME.items():
        if any(fnmatchcase(one, name) for one in names):
            return kind
    if any(map(DUMPED.fullmatch, names)):
        return "verl-answers"
    text = "" if source.is_dir() else read_text(source)
    if '"global_step/max_steps"' in text:
        return "swift"
    if text.startswith('{"step":') or any(map(STEP.search, text.splitlines())):
        return "verl"
    raise RecordsError(f"expected the log or output folder of a trainer, got {source}: name its --format (--help)")
