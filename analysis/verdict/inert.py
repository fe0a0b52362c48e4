"""Switches and settings that never acted: runs that are the same bit for bit, and shares of tokens that are 0."""

from math import nan

import pandas as pd

from analysis.records.design import Block
from analysis.records.outcomes import scores_of
from analysis.records.search import word
from analysis.records.study import Study
from analysis.verdict.levels import values_of

TRAINING = ("rollout/", "optimizer/", "ledger/")  # what a run did; a loss's own diagnostics may differ without effect
SHARES = {  # by setting, the columns of scores whose sum is the share of tokens on which it acted
    "epsilon": ("clip_low_share",),
    "epsilon_high": ("clip_high_share",),
    "delta": ("dual_clip_share",),
    "fipo_clip_range": ("low_share", "high_share"),
    "fipo_decay_rate": ("moved_share",),
    "fipo_safety_threshold": ("safety_share",),
}


def identical(study: Study, arm: str, other: str) -> list[bool]:
    """By seed that both arms have, whether their runs did the same bit for bit: rollouts, updates, held-out answers."""
    runs = study.runs[study.runs["run"].isin(study.folders)]
    first, second = (runs[runs["arm"] == name].set_index("seed")["run"] for name in (arm, other))
    return [_same_run(study, first[seed], second[seed]) for seed in first.index.intersection(second.index)]


def _same_run(study: Study, run: str, other: str) -> bool:
    if run == other:
        return True
    if run not in study.steps_of or other not in study.steps_of:
        return False
    steps = [study.steps_of[name] for name in (run, other)]
    if not _equal(*(table[["rollout/accuracy"]] for table in steps)):  # most runs differ already there
        return False
    recorded = ["step", *(name for name in study.metrics if str(name).startswith(TRAINING))]
    both = [name for name in recorded if all(table[name].notna().any() for table in steps)]
    if not _equal(*(table[both] for table in steps)):
        return False
    answered = ["step", "prompt_id", "sample", "correct", "response_tokens"]
    return _equal(*(study.evals.loc[study.evals["run"] == name, answered] for name in (run, other)))


def _equal(table: pd.DataFrame, other: pd.DataFrame) -> bool:
    return len(table) > 0 and table.reset_index(drop=True).equals(other.reset_index(drop=True))


def acted_table(scores: pd.DataFrame, block: Block) -> pd.DataFrame:
    """Per arm, varied setting and value: the largest share of tokens, over the runs, on which the setting acted.

    arm, setting, value, share; without rows for a setting of which the runs do not record this.
    """
    rows = []
    for setting in block.varied:
        columns = [name for name in SHARES.get(setting, ()) if name in scores]
        values = values_of(block, setting)
        of_block = scores_of(scores, block.name)
        shares = of_block[columns].sum(axis=1, min_count=1) if columns else pd.Series(nan, index=of_block.index)
        of_block = of_block.assign(share=shares, value=[values[place] for place in of_block["place"]])
        for (arm, value), group in of_block.dropna(subset=["share"]).groupby(
            ["arm", "value"], sort=False, dropna=False
        ):
            rows.append({"arm": arm, "setting": setting, "value": value, "share": float(group["share"].max())})
    return pd.DataFrame(rows, columns=["arm", "setting", "value", "share"])


def never_acted(scores: pd.DataFrame, block: Block, arm: str, setting: str) -> tuple[list[str], bool]:
    """The values at which the setting never acted on a token of any run, in words, and whether these are all."""
    table = acted_table(scores, block)
    table = table[(table["arm"] == arm) & (table["setting"] == setting)]
    return [word(value) for value in table.loc[table["share"] == 0, "value"]], bool((table["share"] == 0).all())
