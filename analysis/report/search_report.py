"""A search -> report.html, search.json and the figures' files; the comparison of its winners gets its own report."""

import json
from collections.abc import Sequence
from pathlib import Path

from analysis.figures.chart import Chart
from analysis.figures.search_charts import search_charts
from analysis.records.search import Search
from analysis.report.files import Asked, write_charts, write_files
from analysis.report.search_page import search_page, source_of_search
from analysis.report.search_winners import report_winners
from analysis.verdict.search_findings import search_findings
from analysis.verdict.search_sentences import found_sentences, winner_sentence


def write_search_report(search: Search, output: Path, asked: Asked, stands_in: Path | None = None) -> list[str]:
    """Write the report, search.json and all figures into `output`, and hand back the sentences of what was found.

    stands_in: the folder that the page will stand in, from where its links lead on, where that is not `output`; the
    winners' own report is then left as it is.
    """
    found = search_findings(search)
    fresh = report_winners(search.folder / "winners", found.bests, asked, write=stands_in is None)
    source = source_of_search(search, asked.given)
    shown = write_charts(search_charts(found), output, source)
    texts = {
        "report.html": search_page(found, shown, fresh, (stands_in or output, source)),
        "search.json": json.dumps(found.as_json(fresh.rows), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    write_files(texts, shown, output, (list(asked.folders), asked.options))
    return [*found_sentences(found), *(winner_sentence(winner) for winner in fresh.rows)]


def write_search_figures(search: Search, output: Path, asked: Asked, names: Sequence[str] = ()) -> list[str]:
    """Write the figures alone, all or the groups named, into output/figures, and hand back the figures' names."""
    charts: list[Chart] = search_charts(search_findings(search), names)
    return [item.name for item in write_charts(charts, output, source_of_search(search, asked.given))]
