"""Tables -> LaTeX (booktabs), ready to be \\input."""

import re
from collections.abc import Sequence

from analysis.report.tables import Table

LONGEST = 32  # letters in a column that is not broken into lines
SPECIAL = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{RIGHTWARDS ARROW}": r"$\to$",
}


def latex_table(table: Table, caption: str, label: str, about: Sequence[str] = ()) -> str:
    """The table as an environment, `about` as comments on top; words left, numbers right, long words in paragraphs."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.head)
    kinds = "".join(_kind(cells, place < table.words) for place, cells in enumerate(columns))
    lines = [f"% {line}" for line in about]
    lines += [r"\begin{table}[t]", r"\centering", r"\footnotesize"]
    lines += [rf"\caption{{{escaped(caption)}}}", rf"\label{{{label}}}"]
    lines += [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", _row(table.head), r"\midrule", *map(_row, table.rows)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """The text with all that LaTeX would read as commands made plain, and minus signs before numbers."""
    signs = re.sub(r"(?<![\w.-])-(?=\d)", "\N{MINUS SIGN}", text)
    return "".join(SPECIAL.get(letter, letter) for letter in signs)


def _kind(cells: Sequence[str], are_words: bool) -> str:
    if max(map(len, cells), default=0) > LONGEST:
        return r"p{0.24\linewidth}"
    return "l" if are_words else "r"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"
