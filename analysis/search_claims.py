"""Claims about a designed grid: the change along its trend, decided as claims about arms are."""

from dataclasses import dataclass
from math import log2

import pandas as pd

from analysis.claims import Claim, claims_of
from analysis.evidence import Evidence, evidence
from analysis.formatting import bracket, plain, signed
from analysis.search_records import Search
from analysis.search_statistics import doublings, slopes
from analysis.search_trend import Trend
from analysis.search_views import grid_values


@dataclass(frozen=True)
class GridClaim:
    """A claim and what the seeds of a grid say to it; the effect is the change from the claim's start to its end."""

    claim: Claim
    evidence: Evidence

    @property
    def sentence(self) -> str:
        """The word with its numbers, and what it would take where there is none."""
        claim, found = self.claim, self.evidence
        asked = f"{claim.parameter} from {claim.start:g} to {claim.end:g}"
        within = (
            f"margin \N{PLUS-MINUS SIGN}{claim.margin:g}" if claim.kind == "equivalent" else f"margin {claim.margin:g}"
        )
        effect = f"change of {claim.metric} along the trend {signed(found.effect)} {bracket(found.low, found.high)}"
        head = f"{claim.text}: {self.word}. {asked}, {effect} at level {100 * found.level:.4g} %, {within}, "
        return head + f"{found.n[0]} seeds. {self._power()}"

    @property
    def word(self) -> str:
        """Supported, contradicted or undecided, and why where the seeds are too few."""
        return self.evidence.decision + ("" if self.evidence.has_enough_seeds else ", insufficient seeds")

    def _power(self) -> str:
        found = self.evidence
        needed = "no number of seeds" if found.seeds_needed is None else f"{max(found.seeds_needed, 5)} seeds"
        kind = "margin that such seeds could show" if self.claim.kind == "equivalent" else "change that they would find"
        return f"Smallest {kind} in 80 % of the studies: {plain(found.smallest_detectable)}; for this margin: {needed}."


def grid_claims(search: Search, trends: list[Trend]) -> list[GridClaim]:
    """The claims of the search's file that its grids can test, each decided over the seeds with every value."""
    claims = claims_of(search.folder, search.description)
    found = []
    for trend in trends:
        asked = claims.about_grid(trend.loss, trend.parameter) if claims and trend.unit == "doubling" else []
        primary = max(1, sum(claim.role == "primary" for claim in asked))
        for claim in asked:
            m = primary if claim.role == "primary" else 1
            found.append(GridClaim(claim, evidence(claim, _changes(search, trend, claim), None, m, robust=False)))
    return found


def _changes(search: Search, trend: Trend, claim: Claim) -> pd.Series:
    """By seed, the change from the claim's start to its end along the seed's own line over log2 of the value."""
    start, end = float(claim.start or 1.0), float(claim.end or 1.0)
    seeds, _ = grid_values(search, trend.loss, trend.parameter)
    matrix = seeds.pivot_table(index="seed", columns="x", values="seed_value").dropna()
    if matrix.empty:
        return pd.Series(dtype=float)
    per_doubling = slopes(doublings([float(x) for x in matrix.columns]), matrix.to_numpy(float))
    return pd.Series(per_doubling * log2(end / start), index=matrix.index)
