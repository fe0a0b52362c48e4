"""What a careful reader must know beside a verdict's numbers."""

import pandas as pd

from analysis.formatting import counted, listed
from analysis.records.outcomes import PRIMARY
from analysis.records.provenance import confounds
from analysis.records.study import COUNTING, Study
from analysis.verdict.controls import collapsed


def notes(study: Study, table: pd.DataFrame) -> list[str]:
    """The notes on a study and its table of outcomes; empty where nothing is amiss."""
    return [*_confounds(study), *notes_on_records(study), *_collapsed(study, table)]


def notes_on_records(study: Study) -> list[str]:
    """The notes that any study's records give rise to: when claims and seeds were fixed, and what was left out."""
    return [*_claims(study), *_plans(study), *_unlike_records(study), *_left_out(study)]


def _confounds(study: Study) -> list[str]:
    names = confounds(study)
    if not names:
        return []
    return [f"The arms differ in more than the loss: {listed(names)}. No difference can be put down to the loss alone."]


def _claims(study: Study) -> list[str]:
    """Claims that were fixed after a run had begun could have been fitted to it."""
    if study.claims is None:
        return ["No claims were fixed before the runs, so everything here is exploratory."]
    fixed, began = str(study.description["claims"].get("fixed_at")), study.environments["started_at"].dropna()
    early = study.environments.loc[began[began < fixed].index, "run"]
    if early.empty:
        return []
    return [f"The claims were fixed at {fixed}, after {counted(len(early), 'run')} had begun, {early.iloc[0]} first."]


def _plans(study: Study) -> list[str]:
    """Seeds that were added after a look at the others make every p smaller than it is."""
    plans = study.description.get("plans", [])
    if len(plans) < 2:
        return []
    began = study.environments["started_at"].dropna()
    before = int((began < plans[-1]["at"]).sum())
    if not before:
        return []
    return [
        f"The plan was changed {counted(len(plans) - 1, 'time')}, last at {plans[-1]['at']}, when "
        f"{counted(before, 'run')} had begun. If seeds were added because of what was seen, intervals and p values are "
        "too narrow and too small: they hold for a number of seeds that was fixed in advance."
    ]


def _unlike_records(study: Study) -> list[str]:
    found = []
    named = study.description.get("primary_outcome", PRIMARY)
    if PRIMARY not in str(named).lower() and "rollout/accuracy" not in str(named):
        found.append(f"study.json names {named!r} as primary outcome, which this report does not compute: it uses AUC.")
    finished = study.metrics[~study.metrics["run"].isin(study.diverged)]
    steps = finished.groupby("run", observed=True)["step"].nunique()
    if steps.nunique() > 1:
        short = ", ".join(f"{run} ({count})" for run, count in steps[steps < steps.max()].items())
        found.append(f"Not all runs recorded {steps.max()} steps, so their outcomes are not quite comparable: {short}.")
    return found


def _left_out(study: Study) -> list[str]:
    planned = study.runs["arm"].isin([arm.name for arm in study.arms])
    lost = study.runs[~study.runs["state"].isin(COUNTING) & planned]
    if lost.empty:
        return []
    names = ", ".join(f"{row.run} ({row.state})" for row in lost.itertuples())
    return [f"Runs left out: {names}. If they failed because of what they were, the rest flatters their arm."]


def _collapsed(study: Study, table: pd.DataFrame) -> list[str]:
    compared = table[table["arm"].isin([arm.name for arm in study.compared_arms])]
    runs = collapsed(study, compared)
    if not runs:
        return []
    ended = f", of which {listed(study.diverged)} ended before their last step" if study.diverged else ""
    return [
        f"Diverged or ended no better than they began: {listed(runs)}{ended}. They count at their last evaluation. "
        "With such runs t intervals cover far less than they say, so claims about their arms rest on the median of the "
        "pairwise differences and on exact ranks; the estimate without them stands beside."
    ]
