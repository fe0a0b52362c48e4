"""What the evidence supports and what it does not: a word per claim, and the sentences that say it."""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.formatting import bracket, counted, plain, signed
from analysis.records.outcomes import OUTCOMES
from analysis.records.provenance import confounds
from analysis.records.records import Study
from analysis.statistics.decisions import FEWEST_SEEDS
from analysis.verdict.claim_verdicts import UNFIXED, ClaimVerdict, claim_verdicts, not_tested
from analysis.verdict.controls import Control, negative_control, positive_control
from analysis.verdict.evidence import Evidence
from analysis.verdict.notes import notes

ONE_START = "All seeds share one warm start, so the intervals say nothing about other warm starts."
NOTHING = "There is nothing to compare: no claim's arms have runs."


@dataclass(frozen=True)
class Verdict:
    """The answer of a study: its sentences first, then the numbers that they are made from.

    not_tested: claims of the study's file that it cannot test, by their text, and what is missing.
    """

    question: str
    sentence: str
    what_it_would_take: str
    claims: list[ClaimVerdict]
    not_tested: dict[str, str]
    positive: Control
    negative: Control
    notes: list[str]

    @property
    def primary(self) -> list[ClaimVerdict]:
        """Those that may be quoted."""
        return [item for item in self.claims if item.is_primary]

    def as_json(self) -> dict[str, Any]:
        """The same for a machine; not-a-numbers become null, as JSON has none."""
        content = asdict(self)
        for row, item in zip(content["claims"], self.claims, strict=True):
            row["verdict"], row["reason"] = item.evidence.decision, item.reason
        return dict(without_nan(content))


def verdict(study: Study, table: pd.DataFrame) -> Verdict:
    """The verdict on a study from its table of outcomes."""
    found = claim_verdicts(study, table)
    positive, negative = positive_control(study, table), negative_control(study, table)
    return Verdict(
        question=study.claims.title if study.claims else f"Pairs of arms, all exploratory: {UNFIXED}",
        sentence=_sentence(study, found, (positive, negative)),
        what_it_would_take=_what_it_would_take(found),
        claims=found,
        not_tested={claim.text: words for claim, words in not_tested(study)},
        positive=positive,
        negative=negative,
        notes=notes(study, table),
    )


def effect_words(found: Evidence, metric: str) -> str:
    """The effect with the interval that decides: `+0.012 [-0.003, +0.027]`, in the metric's own digits."""
    digits = OUTCOMES[metric].digits
    return f"{signed(found.effect, digits)} {bracket(found.low, found.high, digits)}"


def _sentence(study: Study, found: list[ClaimVerdict], controls: tuple[Control, Control]) -> str:
    if not found:
        return NOTHING
    positive, negative = controls
    clauses = [positive.clause] + ([negative.clause] if negative.passed is False else [])
    caveat = " (the arms differ in more than the loss)" if confounds(study) else ""
    return f"{_headline(found)}{caveat}. {_capital(', and '.join(clauses))}."


def _headline(found: list[ClaimVerdict]) -> str:
    """The primary claims by word; without any, the exploratory ones, as what they are."""
    items = [item for item in found if item.is_primary] or found
    kind = "primary claim" if items[0].is_primary else "exploratory comparison"
    if not any(item.evidence.has_enough_seeds for item in items):
        seeds = max(max(item.evidence.n) for item in items)
        return (
            f"Insufficient seeds: at most {seeds} per arm, and no significance is claimed from fewer than "
            f"{FEWEST_SEEDS}, so {counted(len(items), kind)} {'is' if len(items) == 1 else 'are'} undecided"
        )
    parts = []
    for word in ("supported", "contradicted", "undecided"):
        named = [
            f"{_quoted(item)} ({effect_words(item.evidence, item.claim.metric)})"
            for item in items
            if item.evidence.decision == word
        ]
        if named:
            parts.append(f"{word}: {'; '.join(named)}")
    return f"Of {counted(len(items), kind)}, {'. '.join(_capital(part) if i else part for i, part in enumerate(parts))}"


def _what_it_would_take(found: list[ClaimVerdict]) -> str:
    undecided = [item for item in found if item.is_primary and item.evidence.decision == "undecided"]
    if not undecided:
        return f"What it would take to know more: other warm starts. {ONE_START}"
    needs = "; ".join(f"{_quoted(item)}: {_need(item)}" for item in undecided)
    return (
        "What it would take to decide these (80 % power, for a true effect one margin from the margin; for an "
        f"equivalence, for none): {needs}. {ONE_START}"
    )


def _need(item: ClaimVerdict) -> str:
    found, digits = item.evidence, OUTCOMES[item.claim.metric].digits
    if item.claim.margin == 0:
        detectable = plain(found.smallest_detectable, digits)
        return f"no margin was declared; these seeds would find an effect of {detectable}"
    if found.seeds_needed is None:
        return "not to be said from these runs"
    now = f" (now detectable: {plain(found.smallest_detectable, digits)})" if found.has_enough_seeds else ""
    return f"about {max(found.seeds_needed, FEWEST_SEEDS):,} seeds per arm{now}"


def _quoted(item: ClaimVerdict) -> str:
    return f"\N{LEFT DOUBLE QUOTATION MARK}{item.claim.text}\N{RIGHT DOUBLE QUOTATION MARK}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def without_nan(value: Any) -> Any:
    """Replace NaN by null, since JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
