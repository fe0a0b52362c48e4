"""Run and study folders -> statistics -> figures, tables and one report; `docs/run_folder.md` says what may be read.

The names are imported when they are first asked for, so that `python -m analysis claims` starts at once.
"""

from importlib import import_module
from typing import Any

WHERE = {
    "Findings": "verdict.findings",
    "RecordsError": "errors",
    "Study": "records.study",
    "findings": "verdict.findings",
    "outcomes": "records.outcomes",
    "read": "records.study",
    "summary": "records.outcomes",
    "write_report": "report.build",
}
__all__ = list(WHERE)


def __getattr__(name: str) -> Any:
    """A public name, from the module that has it."""
    if name not in WHERE:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{WHERE[name]}"), name)
