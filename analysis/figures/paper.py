"""The FIPO paper's Figures 1 to 12 from our runs, under the paper's numbers.

Left out: Figure 3f, which is `length_path`, and 13 to 16, which are case studies (`microscope` shows ours).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.figures import training
from analysis.figures.figure import Figure, seed_words
from analysis.figures.style import arm_styles
from analysis.figures.training import EVALUATION
from analysis.records.curves import answers_to
from analysis.records.study import Study
from analysis.verdict.findings import Findings

ANY = "any of its settings"


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper: what it shows here, and the setting in which the arms of FIPO that it compares differ.

    differ: None where it compares all arms.
    """

    number: str
    title: str
    quantities: Sequence[str]
    differ: str | None = None


FIGURES = tuple(PaperFigure(**one) for one in training.DATA["paper"])


def paper_figures(found: Findings, figure: PaperFigure) -> Iterator[Figure]:
    """One figure of the paper from the arms that it compares; none where fewer than two of them have runs."""
    study, number = found.study, figure.number.replace("_", " ")
    arms, quantities = arms_for(study, figure), _by_benchmark(study, figure)
    tables = training.course_tables(study, quantities, found.axis)
    curves, means = (table[table["arm"].isin(arms)].reset_index(drop=True) for table in tables)
    if curves.empty:
        return
    look = training.look_of(study, arm_styles(study), found.axis)
    shown = training.panels_of(curves, quantities, (look.styles, ""))
    yield Figure(
        f"paper_figure_{figure.number}",
        f"The paper's Figure {number}: {figure.title}",
        f"As Figure {number} of the FIPO paper (arXiv 2603.19835) from these runs: another model and task unless they "
        f"were made with the paper's. {look.lines}. {seed_words(study)}.",
        training.small_multiples(curves, means, shown, look),
        {"seeds": curves, "means": means},
        training.in_words(means, shown, look),
    )


def arms_for(study: Study, figure: PaperFigure) -> list[str]:
    """The arms with runs that the figure compares, none where they are fewer than it needs."""
    if not study.is_comparison:
        return []
    compared = study.compared_arms
    if figure.differ is None:
        return [arm.name for arm in compared]
    settings = {arm.name: _settings(study, arm.name) for arm in compared if arm.loss_type == "fipo"}
    first = next(iter(settings), "")
    alike = [arm for arm in settings if figure.differ == ANY or _differ(settings, first, arm) <= {figure.differ}]
    return alike if len(alike) > 1 else []


def _settings(study: Study, arm: str) -> dict[str, object]:
    """The settings of an arm by name, but for those of the run itself, such as its seed."""
    sections = [named for section, named in study.config_of(arm).items() if section != "run"]
    return {name: value for named in sections for name, value in named.items()}


def _differ(settings: dict[str, dict[str, object]], one: str, other: str) -> set[str]:
    return {name for name, value in settings[one].items() if settings[other].get(name) != value}


def _by_benchmark(study: Study, figure: PaperFigure) -> list[str]:
    """The figure's quantities, accuracy once for each benchmark where the runs have several."""
    named = dict.fromkeys(suite for of_run in study.suites.values() for suite in of_run)
    suites = [suite for suite in named if not answers_to(study, suite).empty]
    accuracy = [f"{EVALUATION}: {suite}" for suite in suites] if len(suites) > 1 else [EVALUATION]
    return [name for one in figure.quantities for name in (accuracy if one == EVALUATION else [one])]
