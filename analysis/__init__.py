"""Run and study folders -> statistics -> figures, tables and one report; `docs/run_folder.md` says what may be read.

The names are imported when they are first asked for, so that `python -m analysis claims` starts at once.
"""

from importlib import import_module
from typing import Any

WHERE = {
    "RecordsError": "errors",
    "Study": "records.records",
    "Verdict": "verdict.verdicts",
    "outcomes": "records.outcomes",
    "read": "records.records",
    "summary": "records.outcomes",
    "verdict": "verdict.verdicts",
    "write_figures": "report.comparison",
    "write_report": "report.comparison",
}
__all__ = list(WHERE)


def __getattr__(name: str) -> Any:
    """A public name, from the module that has it."""
    if name not in WHERE:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{WHERE[name]}"), name)
