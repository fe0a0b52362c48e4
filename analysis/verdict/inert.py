"""Switches and settings that never acted: runs that are the same bit for bit, and shares of tokens that are 0."""

from dataclasses import dataclass
from math import nan

import pandas as pd

from analysis.formatting import counted
from analysis.records.design import Block
from analysis.records.outcomes import scores_of
from analysis.records.search import ACTED, PARAMETER, Search, word
from analysis.records.study import Study
from analysis.verdict.levels import values_of

HARDLY = 0.001
TRAINING = ("rollout/", "optimizer/", "ledger/")  # what a run did; a loss's own diagnostics may differ without effect
SHARES = {  # by setting, the columns of scores whose sum is the share of tokens on which it acted
    "epsilon": ("clip_low_share",),
    "epsilon_high": ("clip_high_share",),
    "delta": ("dual_clip_share",),
    "fipo_clip_range": ("low_share", "high_share"),
    "fipo_decay_rate": ("moved_share",),
    "fipo_safety_threshold": ("safety_share",),
}
# What must happen to a token for the parameter to act on it, as a sentence that says that it never did.
NEVER = {
    "epsilon": "no token was stopped by the lower clip",
    "epsilon_high": "no token was stopped by the upper clip",
    "delta": "no token was stopped by the dual clip",
    "fipo_clip_range": "no influence weight was stopped at a bound",
    "fipo_decay_rate": "no influence weight was further than 0.001 from 1",
    "fipo_safety_threshold": "no negative token's ratio exceeded it",
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


@dataclass(frozen=True)
class Acted:
    """The range, over the trials that say so, of the share of trained tokens on which a searched parameter acted.

    word: `acted`, `hardly acted` (on less than 0.1 % of the tokens in every trial), `never acted`, or `not recorded`.
    """

    loss: str
    parameter: str
    low: float
    high: float
    trials: int
    word: str
    sentence: str


def acted_in_search(search: Search) -> list[Acted]:
    """Each searched parameter of each loss, in the order of the search; trials without a value count where they say."""
    return [_acted(search, loss, name) for loss in search.losses for name in search.searched(loss)]


def _acted(search: Search, loss: str, name: str) -> Acted:
    rows = search.of(loss)
    shares = rows[ACTED + name].dropna() if ACTED + name in rows else rows["value"].iloc[:0]
    if shares.empty:
        return Acted(loss, name, nan, nan, 0, "not recorded", "")
    low, high = float(shares.min()), float(shares.max())
    tried = [word(value) for value in rows.loc[shares.index, PARAMETER + name].dropna().sort_values().unique()]
    trials = counted(len(shares), "trial")
    where = f"({tried[0]} to {tried[-1]}, {trials})" if tried else f"({trials})"
    said = ""
    if high == 0:
        never = NEVER.get(name, "it touched no token")
        said = f"never acted: {never} in any trial; in this range {where} it is inert."
    elif high < HARDLY:
        share = f"on at most {100 * high:.2g}% of the trained tokens in any trial"
        said = f"hardly acted: {share} {where}, too few to expect a difference from it."
    acted = said.partition(":")[0] or "acted"
    return Acted(loss, name, low, high, len(shares), acted, said and f"{search.label(loss)}: {name} {said}")
