"""The FIPO paper's Figures 1 to 12 from our runs, under the paper's numbers.

Left out: Figure 3f, which is `length_path`, and 13 to 16, which are case studies (`microscope` shows ours).
"""

from collections.abc import Iterator

from analysis.figures import training
from analysis.figures.figure import Figure, seed_words
from analysis.figures.style import arm_styles
from analysis.figures.training import EVALUATION, Course
from analysis.records.curves import answers_to
from analysis.records.study import Study
from analysis.verdict.findings import Findings

ANY = "any of its settings"


def paper_figures(found: Findings, figure: Course) -> Iterator[Figure]:
    """One figure of the paper from the arms that it compares; none where fewer than two of them have runs."""
    study, number = found.study, figure.name.removeprefix("paper_figure_").replace("_", " ")
    arms, quantities = arms_for(study, figure), _by_benchmark(study, figure)
    tables = training.course_tables(study, quantities, found.axis)
    curves, means = (table[table["arm"].isin(arms)].reset_index(drop=True) for table in tables)
    if curves.empty:
        return
    look = training.look_of(study, arm_styles(study), found.axis)
    shown = training.panels_of(curves, quantities, (look.styles, ""))
    yield Figure(
        figure.name,
        f"The paper's Figure {number}: {figure.title}",
        f"As Figure {number} of the FIPO paper (arXiv 2603.19835) from these runs: another model and task unless they "
        f"were made with the paper's. {look.lines}. {seed_words(study)}.",
        training.small_multiples(curves, means, shown, look),
        {"seeds": curves, "means": means},
        training.in_words(means, shown, look),
    )


def arms_for(study: Study, figure: Course) -> list[str]:
    """The arms with runs that the figure compares, none where they are fewer than it needs."""
    if not study.is_comparison:
        return []
    compared = study.compared_arms
    if figure.differ is None:
        return [arm.name for arm in compared]
    # By arm its settings, but for those of the run itself, such as its seed.
    configs = {arm.name: study.config_of(arm.name) | {"run": {}} for arm in compared if arm.loss_type == "fipo"}
    settings = {arm: {k: v for one in config.values() for k, v in one.items()} for arm, config in configs.items()}
    first = settings[next(iter(settings))] if settings else {}
    differ = {arm: {name for name in first if own.get(name) != first[name]} for arm, own in settings.items()}
    alike = [arm for arm, names in differ.items() if figure.differ == ANY or names <= {figure.differ}]
    return alike if len(alike) > 1 else []


def _by_benchmark(study: Study, figure: Course) -> list[str]:
    """The figure's quantities, accuracy once for each benchmark where the runs have several."""
    named = dict.fromkeys(suite for of_run in study.suites.values() for suite in of_run)
    suites = [suite for suite in named if not answers_to(study, suite).empty]
    accuracy = [f"{EVALUATION}: {suite}" for suite in suites] if len(suites) > 1 else [EVALUATION]
    return [name for one in figure.quantities for name in (accuracy if one == EVALUATION else [one])]
