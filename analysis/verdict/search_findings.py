"""A search with what was computed from it once: the best per loss, trends of a designed grid, what acted."""

from dataclasses import asdict, dataclass
from typing import Any

from analysis.records.search import Search
from analysis.report.search_winners import Winner
from analysis.verdict.inert import Acted, acted
from analysis.verdict.search_best import Best, best_of
from analysis.verdict.search_claims import GridClaim, grid_claims
from analysis.verdict.search_trend import Trend, trend
from analysis.verdict.verdicts import without_nan


@dataclass(frozen=True)
class SearchFindings:
    """All that the figures, tables and sentences of a search's report share."""

    search: Search
    bests: list[Best]
    trends: list[Trend]
    acted: list[Acted]
    claims: list[GridClaim]

    def as_json(self, winners: list[Winner]) -> dict[str, Any]:
        """The same for a machine; not-a-numbers become null, as JSON has none."""
        counts = self.search.trials.groupby(["loss", "outcome"], sort=True).size()
        content = {
            "schema_version": 1,
            "name": self.search.name,
            "trials": {loss: _counts(counts, loss) for loss in self.search.losses},
            "best": [asdict(best) for best in self.bests],
            "trend": [asdict(item) | {"sentence": item.sentence} for item in self.trends],
            "claims": [asdict(item) | {"verdict": item.word, "sentence": item.sentence} for item in self.claims],
            "acted": [asdict(item) for item in self.acted],
            "winners": [asdict(winner) for winner in winners],
        }
        return dict(without_nan(content))


def search_findings(search: Search) -> SearchFindings:
    """Everything that is said of a search, computed once."""
    trends = [found for loss in search.losses if (found := trend(search, loss)) is not None]
    bests = [best_of(search, loss) for loss in search.losses]
    return SearchFindings(search, bests, trends, acted(search), grid_claims(search, trends))


def _counts(counts: Any, loss: str) -> dict[str, int]:
    return {outcome: int(n) for (of_loss, outcome), n in counts.items() if of_loss == loss}
