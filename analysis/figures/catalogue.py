"""The figures in the order of the report, by the name that --only takes; a name may stand for several figures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from analysis.errors import RecordsError
from analysis.figures.blocks import level_figures
from analysis.figures.claims import claim_figures
from analysis.figures.figure import Figure
from analysis.figures.gains import gain_figures
from analysis.figures.ladder import ladder_figures
from analysis.figures.length import length_figures, path_figures
from analysis.figures.microscope import microscope_figures
from analysis.figures.outcomes import outcome_figures
from analysis.figures.paper import FIGURES, paper_figures
from analysis.figures.search import history_figures, importance_figures, maximum_figures
from analysis.figures.space import contour_figures, slice_figures
from analysis.figures.training import COURSES, course_figures
from analysis.figures.weights import weight_figures
from analysis.verdict.findings import Findings
from analysis.verdict.search import SearchFindings

Makers = Mapping[str, Callable[[Any], Iterator[Figure]]]

_COURSES = {course.name: partial(course_figures, course=course) for course in COURSES}
STUDY: Makers = {
    "claims": claim_figures,
    "levels": level_figures,
    "gains": gain_figures,
    "learning_curves": _COURSES.pop("learning_curves"),
    "ladder": ladder_figures,
    "outcomes": outcome_figures,
    "accuracy_against_tokens": _COURSES.pop("accuracy_against_tokens"),
    "accuracy_against_length": length_figures,
    "length_path": path_figures,
    **_COURSES,
    "influence_weights": weight_figures,
    "microscope": microscope_figures,
}
PAPER: Makers = {f"paper_figure_{figure.number}": partial(paper_figures, figure=figure) for figure in FIGURES}
SEARCH: Makers = {
    "history": history_figures,
    "slices": slice_figures,
    "contour": contour_figures,
    "importance": importance_figures,
    "expected_maximum": maximum_figures,
}
NAMES = tuple(sorted([*STUDY, *PAPER, *SEARCH], key=len, reverse=True))
OF_SEVERAL_BLOCKS = ("claims", "levels", "gains", "learning_curves", "outcomes")  # what their report shows


def study_figures(found: Findings, names: Sequence[str] = ()) -> Iterator[Figure]:
    """The figures of a study's report, or those named, one at a time; one without data is left out."""
    shown = list(STUDY) if found.study.is_comparison else OF_SEVERAL_BLOCKS
    return _made({**STUDY, **PAPER}, found, names or shown)


def search_figures(found: SearchFindings, names: Sequence[str] = ()) -> Iterator[Figure]:
    """The same of a search."""
    return _made(SEARCH, found, names or list(SEARCH))


def check_names(names: Sequence[str], of_search: bool) -> None:
    """Raise RecordsError where --only names no figure of such a report."""
    makers = SEARCH if of_search else {**STUDY, **PAPER}
    if wrong := [name for name in names if name not in makers]:
        raise RecordsError(f"expected figures among {', '.join(makers)}, got --only {wrong[0]}: choose from these")


def group_of(name: str) -> str:
    """The name that --only takes for a figure of this name."""
    return next((group for group in NAMES if name.startswith(group)), name)


def _made(makers: Mapping[str, Any], found: Any, names: Sequence[str]) -> Iterator[Figure]:
    return (figure for name in names for figure in makers[name](found))
