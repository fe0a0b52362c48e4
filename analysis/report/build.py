"""Folders -> the report that fits them, or its data alone, for `verify`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.errors import RecordsError
from analysis.figures.catalogue import check_names, search_figures, study_figures
from analysis.figures.style import page_width
from analysis.records.search import is_search, read_search
from analysis.records.study import Study, read
from analysis.report.files import Asked, tables_of, write_figures
from analysis.report.manifest import check_output
from analysis.report.search import search_files, search_source, write_search_report
from analysis.report.study import study_files, study_source, write_study_report
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


def data_of(asked: Asked) -> dict[str, str]:
    """The data files of a report by name, as its folders give them now; nothing is written."""
    if is_search(asked.folders[0]):
        of_search = search_findings(read_search(asked.folders[0]), asked.axis)
        texts, drawn = search_files(of_search), search_figures(of_search)
    else:
        found = findings(_study(asked), asked.axis)
        texts, drawn = study_files(found), study_figures(found)
    return texts | {f"figures/{name}": text for item in drawn for name, text in tables_of(item).items()}


def _study(asked: Asked) -> Study:
    study = read(asked.folders)
    return replace(study, name=asked.name) if asked.name else study
