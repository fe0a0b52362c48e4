"""What the evidence supports and what it does not, in one sentence with the numbers in it."""

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.comparisons import FEWEST_SEEDS, Comparison, compare_arms
from analysis.controls import Control, diverged, negative_control, positive_control
from analysis.formatting import bracket, listed, p_value, plain, signed
from analysis.outcomes import PRIMARY
from analysis.provenance import confounds
from analysis.records import Study
from analysis.style import arm_label

SECONDARY = "final_accuracy"
ONE_START = "All seeds share one warm start, so the intervals say nothing about other warm starts."


@dataclass(frozen=True)
class Verdict:
    """The answer of a study: its sentences first, then the numbers that they are made from."""

    sentence: str
    what_it_would_take: str
    comparisons: list[Comparison]
    secondary: list[Comparison]
    positive: Control
    negative: Control
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """The same for a machine; not-a-numbers become null, as JSON has none."""
        return dict(without_nan(asdict(self)))


def verdict(study: Study, table: pd.DataFrame) -> Verdict:
    """The verdict on a study from its table of outcomes."""
    comparisons = compare_arms(study, table, PRIMARY)
    positive, negative = positive_control(study, table), negative_control(study, table)
    return Verdict(
        sentence=_sentence(study, comparisons, (positive, negative)),
        what_it_would_take=_what_it_would_take(comparisons),
        comparisons=comparisons,
        secondary=compare_arms(study, table, SECONDARY),
        positive=positive,
        negative=negative,
        notes=_notes(study, table),
    )


def _sentence(study: Study, comparisons: list[Comparison], controls: tuple[Control, Control]) -> str:
    if not comparisons:
        return "There is nothing to compare: fewer than two arms that are no planted control have a finished run."
    positive, negative = controls
    pairs = "; ".join(_pair(item) for item in comparisons)
    clauses = [positive.clause] + ([negative.clause] if negative.passed is False else [])
    caveat = " (the arms differ in more than the loss)" if confounds(study) else ""
    return (
        f"{_headline(study, comparisons)} in AUC, the primary outcome{caveat}: {pairs}; and {', and '.join(clauses)}."
    )


def _headline(study: Study, comparisons: list[Comparison]) -> str:
    sizes = sorted({n for item in comparisons for n in item.n})
    seeds = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    if all(item.word == "insufficient seeds" for item in comparisons):
        return f"Insufficient seeds: {seeds} per arm, and no significance is claimed from fewer than {FEWEST_SEEDS},"
    clear = [
        f"{arm_label(item.arm)} {'above' if item.word == 'supported' else 'below'} {arm_label(item.baseline)}"
        for item in comparisons
        if item.word in ("supported", "contradicted")
    ]
    if clear:
        return f"With {seeds} seeds per arm the evidence supports {listed(clear)}"
    arms = listed([arm_label(arm.name) for arm in study.compared_arms])
    return f"Undecided: with {seeds} seeds per arm no difference between {arms} is supported"


def _pair(item: Comparison) -> str:
    numbers = (
        f"{arm_label(item.arm)} - {arm_label(item.baseline)} {signed(item.difference)} {bracket(item.low, item.high)}"
    )
    corrected = "" if item.p_holm is None else f", Holm p {p_value(item.p_holm)}"
    return f"{numbers}{corrected}: {item.word}"


def _what_it_would_take(comparisons: list[Comparison]) -> str:
    open_pairs = [item for item in comparisons if item.word in ("undecided", "insufficient seeds")]
    if not open_pairs:
        return f"What it would take to know more: other warm starts. {ONE_START}"
    needs = "; ".join(_need(item) for item in open_pairs)
    return (
        "What it would take to know more (80 % power after Holm, if the observed difference were the true one, which "
        f"so few seeds hardly pin down): {needs}. {ONE_START}"
    )


def _need(item: Comparison) -> str:
    pair = f"{arm_label(item.arm)} - {arm_label(item.baseline)}"
    if item.smallest_detectable is None:
        return f"{pair}: at least {FEWEST_SEEDS} seeds per arm to say anything"
    have = "" if item.word == "insufficient seeds" else f" (detectable now: {plain(item.smallest_detectable)})"
    if item.seeds_needed is None:
        return f"{pair}: no number of seeds within reach, the difference is about 0{have}"
    return f"{pair}: about {max(item.seeds_needed, FEWEST_SEEDS):,} seeds per arm{have}"


def _notes(study: Study, table: pd.DataFrame) -> list[str]:
    """What a careful reader must know beside the numbers; empty where nothing is amiss."""
    return [*_confounds(study), *_unlike_records(study), *_seeds_apart(study), *_diverged(study, table)]


def _confounds(study: Study) -> list[str]:
    names = confounds(study)
    if not names:
        return []
    return [f"The arms differ in more than the loss: {listed(names)}. No difference can be put down to the loss alone."]


def _unlike_records(study: Study) -> list[str]:
    notes = []
    named = study.description.get("primary_outcome", PRIMARY)
    if PRIMARY not in str(named).lower() and "rollout/accuracy" not in str(named):
        notes.append(f"study.json names {named!r} as primary outcome, which this report does not compute: it uses AUC.")
    steps = study.metrics.groupby("run")["step"].nunique()
    if steps.nunique() > 1:
        short = ", ".join(f"{run} ({count})" for run, count in steps[steps < steps.max()].items())
        notes.append(f"Not all runs recorded {steps.max()} steps, so their outcomes are not quite comparable: {short}.")
    for field, what in (("model_sha256", "initial models"), ("eval_prompts_sha256", "sets of evaluation prompts")):
        if (count := study.environments[field].nunique(dropna=False)) > 1:
            notes.append(f"The runs have {count} different {what}: differences between arms may come from these.")
    return notes


def _seeds_apart(study: Study) -> list[str]:
    lost = study.runs[study.runs["state"].ne("finished") & study.runs["arm"].isin([arm.name for arm in study.arms])]
    if lost.empty:
        return []
    names = ", ".join(f"{row.run} ({row.state})" for row in lost.itertuples())
    return [f"Runs left out: {names}. If they failed because of what they were, the rest flatters their arm."]


def _diverged(study: Study, table: pd.DataFrame) -> list[str]:
    runs = diverged(study, table)
    if not runs:
        return []
    medians = table.groupby("arm", sort=False)[PRIMARY].median()
    words = ", ".join(f"{arm_label(arm.name)} {plain(medians[arm.name])}" for arm in study.compared_arms)
    return [
        f"Ended no better than they began: {', '.join(runs)}. With such runs t intervals cover far less than 95 %: "
        f"read the permutation test and the medians of AUC ({words})."
    ]


def without_nan(value: Any) -> Any:
    """The same with null for every number that is none, as JSON has no other word for it."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value
