"""A search -> report.html, search.json and the figures' files; the comparison of its winners gets its own report."""

import json
from collections.abc import Sequence
from pathlib import Path

from analysis.chart import Chart
from analysis.report import write_charts
from analysis.search_charts import search_charts
from analysis.search_findings import search_findings
from analysis.search_page import search_page
from analysis.search_records import Search
from analysis.search_sentences import found_sentences, winner_sentence
from analysis.search_winners import report_winners


def write_search_report(search: Search, output: Path) -> list[str]:
    """Write the report, search.json and all figures into `output`, and hand back the sentences of what was found."""
    found = search_findings(search)
    fresh = report_winners(search.folder / "winners", found.bests)
    shown = write_charts(search_charts(found), output)
    (output / "report.html").write_text(search_page(found, shown, fresh, output), encoding="utf-8")
    text = json.dumps(found.as_json(fresh.rows), indent=2, ensure_ascii=False, allow_nan=False)
    (output / "search.json").write_text(text + "\n", encoding="utf-8")
    return [*found_sentences(found), *(winner_sentence(winner) for winner in fresh.rows)]


def write_search_figures(search: Search, output: Path, names: Sequence[str] = ()) -> list[str]:
    """Write the figures alone, all or the groups named, into output/figures, and hand back the figures' names."""
    charts: list[Chart] = search_charts(search_findings(search), names)
    return [chart.name for chart, _ in write_charts(charts, output)]
