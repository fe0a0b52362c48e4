"""docs/speed.md from a record of `make bench`. The same record gives the same bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from benchmarks.frame import Record, Row, significant, table

TEMPLATE = Path(__file__).with_name("page.md")


def page(record: Record) -> str:
    """The whole page."""
    judged = [row for row in record.rows if row.verdict]
    missed = f"Targets missed: {sum(row.verdict != 'met' for row in judged)} of {len(judged)}."
    about = fill(measured(record), 120, break_long_words=False, break_on_hyphens=False)
    template = TEMPLATE.read_text(encoding="utf-8")
    return template.format(measured=about, missed=missed, step=tables(record.rows))


def measured(record: Record) -> str:
    """What was measured, where, when and how; what the machine did not have is left out."""
    about: Mapping[str, Any] = record.machine
    names = {"python": "Python", "torch": "torch", "cuda": "CUDA", "transformers": "transformers", "trl": "TRL"}
    versions = ", ".join(f"{name} {about[key]}" for key, name in names.items() if about.get(key))
    return (
        f"`make bench` on {str(about['measured_at']).replace('T', ' at ')}, commit `{about['commit']}`: "
        f"{about['device']} ({about['cpu_capability']}), {about['cores']} cores; "
        f"{versions}. What changed after that commit is not in these figures. "
        "Above 1 times the peer, ours is better; a share of the limit is at best 1. Targets bound the ratio. Written "
        f"from benchmarks/results/{record.name}."
    )


def tables(rows: Sequence[Row]) -> str:
    """A table of the rows, and behind it one of the phases of training steps."""
    phases: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.unit == "%":
            form, _, phase = row.figure.partition(": ")
            needed = "" if row.limit is None else f" ({significant(row.limit)})"
            phases.setdefault(form, {})[phase] = significant(row.ours) + needed
    heads = list(next(iter(phases.values())))
    lines = [["model", *heads], ["---"] * (1 + len(heads))]
    lines += [[form, *cells.values()] for form, cells in phases.items()]
    about = "Where a step's CPU time goes, in %; in brackets what the phase's arithmetic would take at the limit."
    written = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([table([row for row in rows if row.unit != "%"]), about, written])
