"""All that a study shows, computed once for its page, its figures and its files."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.records.credit import read_microscope
from analysis.records.outcomes import outcomes
from analysis.records.study import Study
from analysis.records.tokens import read_tokens
from analysis.verdict.by_question import ByQuestion, by_question
from analysis.verdict.controls import Control, controls, sees_effects
from analysis.verdict.credit import CreditFindings, credit_findings
from analysis.verdict.gains import Gains, gains
from analysis.verdict.inert import acted_table
from analysis.verdict.notes import notes
from analysis.verdict.verdicts import Verdict, not_tested, verdicts

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Findings:
    """A study with what was computed from it.

    scores: a row per block, arm, level and seed; see `outcomes`. not_tested: text of a claim and what is missing.
    by_question: arms compared on the questions that both answered, where the study is imported.
    axis: what the course of training is drawn over, one of curves.AXES.
    """

    study: Study
    scores: pd.DataFrame
    verdicts: list[Verdict]
    not_tested: list[tuple[str, str]]
    controls: list[Control]
    gains: list[Gains]
    notes: list[str]
    axis: str = "steps"
    by_question: tuple[ByQuestion, ...] = ()

    @property
    def primary(self) -> list[Verdict]:
        """The verdicts that may be quoted."""
        return [row for row in self.verdicts if row.is_primary]

    @property
    def question(self) -> str:
        """What the study asks."""
        if self.study.claims:
            return self.study.claims.title
        return "Pairs of arms, all exploratory: no claims were fixed before the runs"

    @property
    def is_complete(self) -> bool:
        """Whether every planned run counts."""
        return len(self.scores) == len(self.study.planned_scores)

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """The tokens that one run with influence weights kept, read when first asked for."""
        return read_tokens(self.study)

    @cached_property
    def credit(self) -> CreditFindings | None:
        """What a microscope showed; None where no run was looked at."""
        return credit_findings(read_microscope(self.study))

    def as_json(self) -> dict[str, Any]:
        """The same for a machine; not-a-numbers become null."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "question": self.question,
            "claims": [row.as_json() for row in self.verdicts],
            "not_tested": dict(self.not_tested),
            "controls": [asdict(row) | {"word": row.word} for row in self.controls],
            "gains": [item.as_json() for item in self.gains],
            "never_acted": [
                {"block": block.name, **row}
                for block in self.study.blocks.values()
                for row in acted_table(self.scores, block).query("share == 0").drop(columns="share").to_dict("records")
            ],
            "credit": self.credit.as_json() if self.credit else None,
            "by_question": [asdict(row) | {"sentence": row.sentence} for row in self.by_question],
            "notes": self.notes,
        }
        return dict(without_nan(content))


def findings(study: Study, axis: str = "steps") -> Findings:
    """Compute everything."""
    scores = outcomes(study)
    planted = controls(study, scores)
    found = verdicts(study, scores, sees_effects(planted))
    missing = not_tested(study, scores)
    asked = tuple(by_question(study, found))
    return Findings(study, scores, found, missing, planted, gains(study, scores), notes(study, scores), axis, asked)


def without_nan(value: Any) -> Any:
    """Replace NaN by null, since JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
