"""A report written anew from its folders with the options that report.json kept, for `verify`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.records.alike import alike
from analysis.records.blocks import is_block_study, read_block_study
from analysis.records.records import read
from analysis.records.search import is_search, read_search
from analysis.report.block_report import write_block_report
from analysis.report.comparison import write_report
from analysis.report.files import Asked
from analysis.report.search_report import write_search_report


def rebuild(folders: Sequence[Path], options: Mapping[str, Any], output: Path) -> None:
    """Write the report of the folders into `output`, and nothing anywhere else."""
    asked = Asked(tuple(folders), **{key: value for key, value in options.items() if key != "name"})
    if is_search(folders[0]):
        search = replace(read_search(folders[0]), given=asked.given)
        write_search_report(search, output, asked, stands_in=folders[0] / "report")
    elif is_block_study(folders[0]):
        found = read_block_study(folders[0], asked.skip_bad)
        write_block_report(replace(found, study=replace(found.study, name=options["name"])), output, asked)
    else:
        study = replace(alike(read(folders, asked.skip_bad)), name=options["name"])  # wherever it lies now
        write_report(study, output, asked)
