"""`python -m analysis import`: sources on the command line -> run folders of a study."""

from argparse import Namespace
from hashlib import sha256
from pathlib import Path

import pandas as pd

from analysis.errors import RecordsError
from analysis.imports.alike import said_once
from analysis.imports.cells import cells_of, chosen, parse_columns
from analysis.imports.readers import read_source
from analysis.imports.runs import Run, runs_of
from analysis.imports.sources import Source, read_settings
from analysis.imports.write import check_study, write_runs


def import_runs(given: Namespace) -> list[str]:
    """Read every source, check all of it, then write; the lines to print. Raises RecordsError before it writes."""
    columns = parse_columns(given.columns)
    runs = [run for text in given.sources for run in _runs(text, given, columns)]
    keys = [(run.arm, run.seed) for run in runs if run.about["seed_known"]]
    if twice := [f"{arm} with seed {seed}" for arm, seed in keys if keys.count((arm, seed)) > 1]:
        raise RecordsError(f"expected each run once, got {twice[0]} twice: see --arm and --seed")
    check_study(given.study, runs, given.claims)
    written = write_runs(given.study, runs, given.claims)
    notes = said_once({path.name: run.about for path, run in zip(written, runs, strict=True)})
    return [*map(str, written), *notes, f"next: python -m analysis report {given.study}"]


def _runs(text: str, given: Namespace, columns: dict[str, str]) -> list[Run]:
    """The runs of one source, with the answers of --answers where it is one run."""
    source, path = read_source(text, given.format), Path(text)
    if given.config:
        inside = path / given.config
        source.settings |= read_settings(inside if inside.is_file() else Path(given.config))
    used = chosen(source, columns)
    cells = cells_of(source, path.name if path.is_dir() else path.stem, given, used)
    if given.answers:
        keys = cells[["arm", "seed", "run"]].drop_duplicates()
        if len(keys) > 1:
            raise RecordsError(f"expected one run in {text} with --answers, got {len(keys)}: import them one by one")
        cells = pd.concat([cells, *(_answers(one, source, given.filter) for one in given.answers)])
        cells[keys.columns] = keys.iloc[0].to_list()
    runs = runs_of(source, cells, used)
    for run in runs:
        hashes = {str(file): sha256(file.read_bytes()).hexdigest() for file in source.files}
        run.about |= {"source": text, "sha256": hashes}
    return runs


def _answers(text: str, source: Source, wanted_filter: str | None) -> pd.DataFrame:
    """Held-out answers by question to a run whose log has means at most."""
    found = read_source(text)
    unnamed = Namespace(arm=None, seed=None, filter=wanted_filter, percent=False)
    cells = cells_of(found, "run-seed0", unnamed, chosen(found, {}))
    if cells["question"].isna().any():
        raise RecordsError(f"expected answers by question in {text}, got {found.kind} without: name it as SOURCE")
    source.files += found.files
    source.notes += found.notes
    return cells
