"""The figures in the order of the report, by the name that --only takes; a name may stand for several figures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from analysis.errors import RecordsError
from analysis.figures.blocks import gain_figures, level_figures
from analysis.figures.claims import claim_figures
from analysis.figures.credit import credit_figures
from analysis.figures.figure import Figure
from analysis.figures.ladder import ladder_figures
from analysis.figures.length import length_figures, path_figures
from analysis.figures.outcomes import outcome_figures
from analysis.figures.paper import FIGURES, paper_figures
from analysis.figures.search import slice_figures, winner_figures
from analysis.figures.training import COURSES, course_figures
from analysis.figures.weights import microscope_figures
from analysis.verdict.findings import Findings
from analysis.verdict.search import SearchFindings


@dataclass(frozen=True)
class Group:
    """The figures of one name: what makes them, and their entry in the report's contents and heading.

    of_blocks: whether the report of a study of several blocks shows them.
    """

    make: Callable[[Any], Iterator[Figure]]
    short: str
    title: str
    of_blocks: bool = False


_COURSES = {course.name: partial(course_figures, course=course) for course in COURSES}
STUDY = {
    "claims": Group(claim_figures, "More claims", "Exploratory claims", of_blocks=True),
    "credit": Group(credit_figures, "Credit", "Is it credit?", of_blocks=True),
    "levels": Group(level_figures, "Levels", "Settings that were varied", of_blocks=True),
    "gains": Group(gain_figures, "Placebos", "What is left of a gain in a placebo", of_blocks=True),
    "learning_curves": Group(_COURSES["learning_curves"], "Learning", "Learning curves", of_blocks=True),
    "ladder": Group(ladder_figures, "Ladder", "One switch at a time"),
    "length_and_entropy": Group(
        _COURSES["length_and_entropy"], "Entropy", "Length, entropy and influence weight", of_blocks=True
    ),
    "outcomes": Group(outcome_figures, "Outcomes", "Outcomes of each arm", of_blocks=True),
    "accuracy_against_tokens": Group(
        _COURSES["accuracy_against_tokens"], "Tokens", "Accuracy against generated tokens"
    ),
    "accuracy_against_length": Group(length_figures, "Length", "Accuracy against response length", of_blocks=True),
    "length_path": Group(path_figures, "Path", "The path of length and accuracy", of_blocks=True),
    "training_dynamics": Group(_COURSES["training_dynamics"], "Dynamics", "Training dynamics"),
    "response_lengths": Group(_COURSES["response_lengths"], "Lengths", "Response lengths"),
    "retries": Group(_COURSES["retries"], "Retries", "Attempts given up", of_blocks=True),
    "clipping_and_weights": Group(_COURSES["clipping_and_weights"], "Clips", "Clips and influence weights"),
    "effective_tokens": Group(_COURSES["effective_tokens"], "Spread", "Effective tokens", of_blocks=True),
    "microscope": Group(microscope_figures, "Microscope", "Influence weights, token by token"),
}
PAPER = {
    f"paper_figure_{figure.number}": Group(partial(paper_figures, figure=figure), "", figure.title)
    for figure in FIGURES
}
SEARCH = {
    "winners": Group(winner_figures, "Winners", "The winners on fresh seeds"),
    "slices": Group(slice_figures, "Slices", "Value over each parameter"),
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
