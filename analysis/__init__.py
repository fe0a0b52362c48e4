"""Run and study folders -> statistics -> figures, tables and one report; `docs/run_folder.md` says what may be read."""

from analysis.outcomes import outcomes, summary
from analysis.records import RecordsError, Study, read
from analysis.report import write_figures, write_report
from analysis.verdict import Verdict, verdict

__all__ = [
    "RecordsError",
    "Study",
    "Verdict",
    "outcomes",
    "read",
    "summary",
    "verdict",
    "write_figures",
    "write_report",
]
