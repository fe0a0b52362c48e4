"""What a careful reader must know beside a verdict's numbers."""

from collections.abc import Iterator
from itertools import product

import pandas as pd

from analysis.formatting import counted, listed
from analysis.records.credit import read_microscope
from analysis.records.provenance import confounds
from analysis.records.study import COUNTING, Study
from analysis.verdict.inert import never_acted

INEXACT = 1e-4  # nats: beyond it a repeated run is another one
FORMAT = 0.01  # smallest difference between the strict and the lenient gain that is reported


def notes(study: Study, scores: pd.DataFrame) -> list[str]:
    """When claims and seeds were fixed, what was left out, what collapsed; empty where nothing is amiss."""
    return [
        *_confounds(study),
        *study.description.get("notes", ()),
        *_claims(study),
        *_plans(study),
        *_unlike_records(study),
        *_left_out(study),
        *_collapsed(study, scores),
        *_format(study, scores),
        *_microscope(study),
        *_inert(study, scores),
    ]


def _microscope(study: Study) -> Iterator[str]:
    """What of the microscope's measurements is left out, or not quite of the run."""
    microscope = read_microscope(study)
    if microscope and microscope.left_out:
        yield f"Measured by the microscope in part, or under another plan, and left out: {listed(microscope.left_out)}."
    if microscope and not microscope.off <= INEXACT:
        yield (
            f"The microscope repeated runs inexactly, with log-probabilities up to {microscope.off:.2g} nats off those "
            "recorded, so its gradients are not quite those of the runs."
        )


def _confounds(study: Study) -> Iterator[str]:
    if names := confounds(study):
        others = listed(names)
        yield f"The arms differ in more than the loss: {others}. No difference can be put down to the loss alone."


def _claims(study: Study) -> Iterator[str]:
    """Claims that were fixed after a run had begun could have been fitted to it."""
    if study.claims is None:
        yield "No claims were fixed before the runs, so everything here is exploratory."
        return
    if study.is_imported:
        yield "The claims came with the imported logs: nothing shows that they were fixed before the runs."
        return
    fixed, began = str(study.description["claims"].get("fixed_at")), study.environments["started_at"].dropna()
    early = study.environments.loc[began[began < fixed].index, "run"]
    if not early.empty:
        yield f"The claims were fixed at {fixed}, after {counted(len(early), 'run')} had begun, {early.iloc[0]} first."


def _plans(study: Study) -> Iterator[str]:
    """Seeds that were added after a look at the others make every p smaller than it is."""
    plans = study.description.get("plans", [])
    if len(plans) > 1 and (before := int((study.environments["started_at"].dropna() < plans[-1]["at"]).sum())):
        yield (
            f"The plan was changed {counted(len(plans) - 1, 'time')}, last at {plans[-1]['at']}, when "
            f"{counted(before, 'run')} had begun. If seeds were added because of what was seen, intervals and p values "
            "are too narrow and too small: they hold for a number of seeds that was fixed in advance."
        )


def _unlike_records(study: Study) -> Iterator[str]:
    finished = study.metrics[~study.metrics["run"].isin(study.diverged)]
    steps = finished.groupby("run", observed=True)["step"].nunique()
    if study.is_comparison and steps.nunique() > 1:
        short = ", ".join(f"{run} ({count})" for run, count in steps[steps < steps.max()].items())
        yield f"Not all runs recorded {steps.max()} steps, so their outcomes are not quite comparable: {short}."


def _left_out(study: Study) -> Iterator[str]:
    planned = study.runs["arm"].isin([arm.name for arm in study.arms])
    lost = study.runs[~study.runs["state"].isin(COUNTING) & planned]
    open_ = lost["state"].isin(["not started", "running"])
    if open_.any():
        to_come = f"{counted(int(open_.sum()), 'run')} of {int(planned.sum())} to come"
        yield f"The study is not complete: {to_come}, so nothing here may be quoted yet."
    if (~open_).any():
        names = ", ".join(f"{row.run} ({row.state})" for row in lost[~open_].itertuples())
        yield f"Runs left out: {names}. If they failed because of what they were, the rest flatters their arm."


def _collapsed(study: Study, scores: pd.DataFrame) -> Iterator[str]:
    compared = scores[~scores["arm"].map(lambda arm: study.role(arm).planted).astype(bool)]
    if runs := list(dict.fromkeys(compared.loc[compared["collapsed"], "run"])):
        cut = [run for run in runs if run in study.diverged]
        ended = f", of which {listed(cut)} ended before the last step" if cut and not study.is_imported else ""
        yield (
            f"Diverged or ended no better than they began: {listed(runs)}{ended}. They count at their last evaluation. "
            "One such run can dominate a mean, so claims about them rest on exact ranks and on Hodges-Lehmann medians "
            "(of the means of all pairs of differences)."
        )


def _format(study: Study, scores: pd.DataFrame) -> Iterator[str]:
    """What of the gains is that answers come in the format asked for."""
    rows = scores.drop_duplicates("run")
    gained = (rows["final_accuracy"] - rows["start_accuracy"]).groupby(rows["arm"], sort=False).mean()
    apart = (rows["lenient_final"] - rows["lenient_start"]).groupby(rows["arm"], sort=False).mean()
    arms = [arm for arm in gained.index if gained[arm] > 0 and gained[arm] - apart[arm] >= FORMAT]
    if arms:
        each = "; ".join(f"{study.label(arm)} {gained[arm]:+.3f}, of which {apart[arm]:+.3f} remains" for arm in arms)
        yield f"Part of the gain in accuracy is format: {each} when answers are read in any format."


def _inert(study: Study, scores: pd.DataFrame) -> Iterator[str]:
    """Values of a varied setting at which nothing could differ."""
    for block in study.blocks.values():
        for setting, arm in product(block.varied, block.arms):
            values, everywhere = never_acted(scores, block, arm, setting)
            if values:
                at = "at any value" if everywhere else f"at {listed(values)}"
                words = f"{setting} never acted {at} in {study.label(arm)}: on 0 % of the tokens of every run."
                yield f"{block.name}: {words}"
