"""Folders -> the report that fits them, for the command line and for `verify`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.errors import RecordsError
from analysis.figures.catalogue import check_names, search_figures, study_figures
from analysis.figures.style import page_width
from analysis.records.search import is_search, read_search
from analysis.records.study import Study, read
from analysis.report.files import Asked, write_figures
from analysis.report.manifest import check_output
from analysis.report.search import search_source, write_search_report
from analysis.report.study import study_source, write_study_report
from analysis.verdict.findings import findings
from analysis.verdict.search import search_findings


def write_report(asked: Asked, output: Path) -> list[str]:
    """Write the report of a search, a study or loose runs into `output`, and hand back what was found."""
    check_output(output)
    if is_search(asked.folders[0]):
        return write_search_report(search_findings(read_search(asked.folders[0]), asked.axis), output, asked)
    study = _study(asked)
    return write_study_report(findings(study, asked.axis), output, replace(asked, name=study.name))


def write_only(asked: Asked, output: Path, names: Sequence[str]) -> list[str]:
    """Write the figures alone into output/figures, all (the paper's only if named) or those named; their names.

    Those for a paper's column have names of their own, so that a report's figures stay.
    """
    of_search = is_search(asked.folders[0])
    check_names(names, of_search)
    check_output(output)
    if of_search:
        search = read_search(asked.folders[0])
        made, source = search_figures(search_findings(search, asked.axis), names), search_source(search, asked.spelled)
    else:
        study = _study(asked)
        made, source = study_figures(findings(study, asked.axis), names), study_source(study, asked.spelled)
    if asked.width != "double":
        made = (replace(item, name=f"{item.name}_{asked.width}") for item in made)
    with page_width(asked.width):
        written = [item.name for item in write_figures(made, output, source)]
    if not written:
        raise RecordsError(f"expected runs with what {', '.join(names)} shows, got others: see docs/gallery.md")
    return written


def rebuild(folders: Sequence[Path], options: Mapping[str, Any], output: Path) -> None:
    """Write the report of the folders into `output` with the options that report.json kept, and nothing elsewhere."""
    if other := set(options) ^ set(Asked((), "").options):
        raise RecordsError(f"its option {min(other)} is not of this code; use the analysis of the commit that wrote it")
    asked = Asked(tuple(folders), **options)
    if is_search(folders[0]):
        search = replace(read_search(folders[0]), given=asked.given)
        write_search_report(search_findings(search, asked.axis), output, asked, stands_in=folders[0] / "report")
    else:
        write_study_report(findings(_study(asked), asked.axis), output, asked)


def _study(asked: Asked) -> Study:
    study = read(asked.folders)
    return replace(study, name=asked.name) if asked.name else study
