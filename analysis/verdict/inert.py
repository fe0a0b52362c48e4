"""Which searched parameters did anything: the share of trained tokens on which each acted, over the trials."""

from dataclasses import dataclass
from math import nan

from analysis.figures.search_views import word
from analysis.figures.style import arm_label
from analysis.formatting import counted
from analysis.records.search import ACTED, PARAMETER, Search

HARDLY = 0.001
# What must happen to a token for the parameter to act on it, as a sentence that says that it never did.
NEVER = {
    "epsilon": "no token was stopped by the lower clip",
    "epsilon_high": "no token was stopped by the upper clip",
    "delta": "no token was stopped by the dual clip",
    "fipo_clip_range": "no influence weight was stopped at a bound",
    "fipo_decay_rate": "no influence weight was further than 0.001 from 1",
    "fipo_safety_threshold": "no negative token's ratio exceeded it",
}


@dataclass(frozen=True)
class Acted:
    """The range, over the trials that say so, of the share of trained tokens on which a parameter acted.

    word: `acted`, `hardly acted` (on less than 0.1 % of the tokens in every trial), `never acted`, or `not said`.
    """

    loss: str
    parameter: str
    low: float
    high: float
    trials: int
    word: str
    sentence: str


def acted(search: Search) -> list[Acted]:
    """Each searched parameter of each loss, in the order of the search; trials without a value count where they say."""
    return [_acted(search, loss, name) for loss in search.losses for name in search.searched(loss)]


def _acted(search: Search, loss: str, name: str) -> Acted:
    rows = search.of(loss)
    shares = rows[ACTED + name].dropna() if ACTED + name in rows else rows["value"].iloc[:0]
    if shares.empty:
        return Acted(loss, name, nan, nan, 0, "not said", "")
    low, high = float(shares.min()), float(shares.max())
    subject = f"{arm_label(loss)}: {name}"
    tried = [word(value) for value in rows.loc[shares.index, PARAMETER + name].dropna().sort_values().unique()]
    where = (
        f"({tried[0]} to {tried[-1]}, {counted(len(shares), 'trial')})"
        if tried
        else f"({counted(len(shares), 'trial')})"
    )
    if high == 0:
        never = NEVER.get(name, "it touched no token")
        sentence = f"{subject} never acted: {never} in any trial; in this range {where} it is inert."
        return Acted(loss, name, low, high, len(shares), "never acted", sentence)
    if high < HARDLY:
        share = f"on at most {100 * high:.2g}% of the trained tokens in any trial"
        sentence = f"{subject} hardly acted: {share} {where}, too few to expect a difference from it."
        return Acted(loss, name, low, high, len(shares), "hardly acted", sentence)
    return Acted(loss, name, low, high, len(shares), "acted", "")
