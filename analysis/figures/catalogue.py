"""The figures in the order of the report, by the name that --only takes; a name may stand for several figures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from analysis.errors import RecordsError
from analysis.figures import training
from analysis.figures.blocks import gain_figures, level_figures
from analysis.figures.claims import claim_figures
from analysis.figures.credit import credit_figures
from analysis.figures.figure import Figure
from analysis.figures.ladder import ladder_figures
from analysis.figures.length import length_figures, path_figures
from analysis.figures.outcomes import outcome_figures
from analysis.figures.paper import paper_figures
from analysis.figures.search import slice_figures, winner_figures
from analysis.figures.training import course_figures
from analysis.figures.weights import microscope_figures
from analysis.verdict.findings import Findings
from analysis.verdict.search import SearchFindings


@dataclass(frozen=True)
class Group:
    """The figures of one name: what makes them, and their heading in the report.

    of_blocks: whether the report of a study of several blocks shows them.
    """

    make: Callable[[Any], Iterator[Figure]]
    title: str
    of_blocks: bool = True


COURSES = {
    course.name: Group(partial(course_figures, course=course), course.title, course.of_blocks)
    for course in training.COURSES
}
STUDY = {
    "claims": Group(claim_figures, "Exploratory claims"),
    "credit": Group(credit_figures, "Is it credit?"),
    "levels": Group(level_figures, "Settings that were varied"),
    "gains": Group(gain_figures, "What is left of a gain in a placebo"),
    "learning_curves": COURSES["learning_curves"],
    "ladder": Group(ladder_figures, "One switch at a time", of_blocks=False),
    "length_and_entropy": COURSES["length_and_entropy"],
    "outcomes": Group(outcome_figures, "Outcomes of each arm"),
    "accuracy_against_tokens": COURSES["accuracy_against_tokens"],
    "accuracy_against_length": Group(length_figures, "Accuracy against response length"),
    "length_path": Group(path_figures, "The path of length and accuracy"),
    **COURSES,
    "microscope": Group(microscope_figures, "Influence weights, token by token", of_blocks=False),
}
PAPER = {course.name: Group(partial(paper_figures, figure=course), course.title) for course in training.PAPER}
SEARCH = {
    "winners": Group(winner_figures, "The winners on fresh seeds"),
    "slices": Group(slice_figures, "Value over each parameter"),
}
NAMES = tuple(sorted([*STUDY, *PAPER, *SEARCH], key=len, reverse=True))


def study_figures(found: Findings, names: Sequence[str] = ()) -> Iterator[Figure]:
    """The figures of a study's report, or those named, one at a time; one without data is left out."""
    shown = [name for name, group in STUDY.items() if group.of_blocks or found.study.is_comparison]
    return (figure for name in names or shown for figure in {**STUDY, **PAPER}[name].make(found))


def search_figures(found: SearchFindings, names: Sequence[str] = ()) -> Iterator[Figure]:
    """The same of a search."""
    return (figure for name in names or SEARCH for figure in SEARCH[name].make(found))


def check_names(names: Sequence[str], of_search: bool) -> None:
    """Raise RecordsError where --only names no figure of such a report."""
    known = SEARCH if of_search else {**STUDY, **PAPER}
    if wrong := [name for name in names if name not in known]:
        raise RecordsError(f"expected figures among {', '.join(known)}, got --only {wrong[0]}: choose from these")
