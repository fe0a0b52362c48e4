"""The way in: `fipo-harness COMMAND` in a shell, and the functions below in a notebook (docs/notebook.md)."""

from fipo_harness.notebook import Recorded, Report, compare, report, train

__all__ = ["Recorded", "Report", "compare", "report", "train"]
