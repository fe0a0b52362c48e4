"""The losses' best settings run again on fresh seeds: the numbers to quote, beside the values that chose them."""

from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

from analysis.errors import RecordsError
from analysis.records.outcomes import outcomes, summary
from analysis.records.records import read_study
from analysis.report.comparison import write_report
from analysis.report.files import Asked
from analysis.verdict.findings import findings
from analysis.verdict.search_best import Best

NOT_RUN = "The best settings have not been run on fresh seeds yet: until then there is no number to quote."


@dataclass(frozen=True)
class Winner:
    """Final accuracy of a loss's best settings on fresh seeds, and the value that chose them."""

    loss: str
    mean: float
    low: float
    high: float
    n: int
    tuned: float


@dataclass(frozen=True)
class Winners:
    """A row per loss, what their own comparison says, and its page; `note` says why there is none."""

    rows: list[Winner]
    verdict: str = ""
    page: Path | None = None
    note: str = ""


def report_winners(folder: Path, bests: list[Best], asked: Asked, write: bool = True) -> Winners:
    """What the winners' runs say, with their own comparison report written beside them unless told not to."""
    if not (folder / "study.json").is_file():
        return Winners([], note=NOT_RUN)
    try:
        study = read_study(folder)
    except RecordsError as error:
        return Winners([], note=f"The runs on fresh seeds cannot be reported: {error}.")
    accuracy = summary(outcomes(study), "final_accuracy")
    tuned = {best.loss: best.value for best in bests}
    rows = [
        Winner(loss=arm.loss_type, **vars(accuracy[arm.name]), tuned=tuned.get(arm.loss_type, nan))
        for arm in study.compared_arms
    ]
    page = folder / "report" / "report.html"
    if write:
        own = replace(asked, folders=(folder,), given=f"{asked.given}/winners")
        return Winners(rows, write_report(study, page.parent, own).sentence, page)
    return Winners(rows, findings(study).verdict.sentence, page)
