"""Claims about a designed grid: the change along its trend, decided as claims about arms are."""

from dataclasses import dataclass, replace
from math import log2

import pandas as pd

from analysis.figures.search_views import open_trials, word
from analysis.formatting import bracket, counted, listed, plain, signed
from analysis.records.claims import Claim, claims_of
from analysis.records.search import Search
from analysis.statistics.best_of import doublings, slopes
from analysis.statistics.decisions import FEWEST_SEEDS
from analysis.verdict.evidence import Evidence, evidence
from analysis.verdict.search_grid import blocks, grid_values
from analysis.verdict.search_trend import Trend

ONLY_A_LINE = "The effect is that of a straight line: a hump or dip in between does not enter it."


@dataclass(frozen=True)
class GridClaim:
    """A claim and what the seeds of a grid say to it; the effect is the change from the claim's start to its end.

    reason: why nothing is decided, whatever the interval; empty where it decides.
    """

    claim: Claim
    evidence: Evidence
    reason: str

    @property
    def sentence(self) -> str:
        """The word with its numbers, and what it would take where there is none."""
        claim, found = self.claim, self.evidence
        asked = f"{claim.parameter} from {claim.start:g} to {claim.end:g}"
        effect = f"change of {claim.metric} along the trend {signed(found.effect)} {bracket(found.low, found.high)}"
        head = f"{claim.text}: {self.word}. {asked}, {effect} at level {100 * found.level:.4g} %, "
        return f"{head}{self.margin}, {counted(found.n[0], 'seed')}. {self._power()} {ONLY_A_LINE}"

    @property
    def word(self) -> str:
        """Supported, contradicted or undecided, and why nothing was decided."""
        return self.evidence.decision + (f", {self.reason}" if self.reason else "")

    @property
    def margin(self) -> str:
        """The claim's margin, as a band where it is an equivalence."""
        sign = "\N{PLUS-MINUS SIGN}" if self.claim.kind == "equivalent" else ""
        return f"margin {sign}{self.claim.margin:g}"

    @property
    def seeds_needed(self) -> str:
        """Seeds that decide the margin in 80 % of the studies, never fewer than may claim anything; or `n/a`."""
        needed = self.evidence.seeds_needed
        return "n/a" if needed is None else f"{max(needed, FEWEST_SEEDS):,}"

    def _power(self) -> str:
        kind = "margin that such seeds could show" if self.claim.kind == "equivalent" else "change that they would find"
        smallest = f"Smallest {kind} in 80 % of the studies: {plain(self.evidence.smallest_detectable)}"
        return f"{smallest}; seeds needed for this margin: {self.seeds_needed}."


def grid_claims(search: Search, trends: list[Trend]) -> list[GridClaim]:
    """The claims of the search's file that its grids can test, each decided over the seeds with every value."""
    claims = claims_of(search.folder, search.description)
    found = []
    for trend in trends:
        asked = claims.about_grid(trend.loss, trend.parameter) if claims and trend.unit == "doubling" else []
        primary = max(1, sum(claim.role == "primary" for claim in asked))
        for claim in asked:
            m = primary if claim.role == "primary" else 1
            found.append(_decided(search, trend, claim, m))
    return found


def _decided(search: Search, trend: Trend, claim: Claim, m: int) -> GridClaim:
    """m: the number of claims among which the level is shared."""
    shown = evidence(claim, _changes(search, trend, claim), None, m, robust=False)
    if reason := _gap(search, trend, claim):
        return GridClaim(claim, replace(shown, decision="undecided"), reason)
    return GridClaim(claim, shown, "" if shown.has_enough_seeds else "insufficient seeds")


def _gap(search: Search, trend: Trend, claim: Claim) -> str:
    """What the grid lacks to decide the claim: a slope over what happens to be there could be one that was selected."""
    if still := open_trials(search)[trend.loss]:
        return f"{counted(still, 'trial')} of the grid not finished"
    if trend.missing:
        return f"no value at {listed([word(value) for value in trend.missing])}, where runs diverged or died"
    if trend.lost_seeds:
        return f"seeds {listed([str(seed) for seed in trend.lost_seeds])} did not finish everywhere"
    if not trend.values[0] <= float(claim.start or 0.0) < float(claim.end or 0.0) <= trend.values[-1]:
        return f"the grid reaches from {word(trend.values[0])} to {word(trend.values[-1])} only"
    return ""


def _changes(search: Search, trend: Trend, claim: Claim) -> pd.Series:
    """By seed, the change from the claim's start to its end along the seed's own line over log2 of the value."""
    start, end = float(claim.start or 1.0), float(claim.end or 1.0)
    matrix = blocks(grid_values(search, trend.loss, trend.parameter)[0])
    if matrix.empty:
        return pd.Series(dtype=float)
    per_doubling = slopes(doublings([float(x) for x in matrix.columns]), matrix.to_numpy(float))
    return pd.Series(per_doubling * log2(end / start), index=matrix.index)
