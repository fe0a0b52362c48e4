"""Tables -> LaTeX (booktabs), ready to be \\input."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

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


def latex_table(frame: pd.DataFrame, caption: str, label: str, about: Sequence[str] = ()) -> str:
    """The frame as a table environment; numbers as they are printed in it, `about` as comments on top.

    Columns of words are set left, columns of numbers right.
    """
    kinds = "".join(_kind(frame[name]) for name in frame)
    lines = [f"% {line}" for line in about]
    lines += [r"\begin{table}[t]", r"\centering", r"\footnotesize"]
    lines += [rf"\caption{{{escaped(caption)}}}", rf"\label{{{label}}}"]
    lines += [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", _row([str(name) for name in frame]), r"\midrule"]
    lines += [_row([_cell(value) for value in row]) for row in frame.itertuples(index=False)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """The text with all that LaTeX would read as commands made plain."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def _kind(column: pd.Series) -> str:
    """Numbers right, words left; long words in a paragraph, since a plain column would run off the page."""
    if pd.api.types.is_numeric_dtype(column):
        return "r"
    longest = max((len(str(cell)) for cell in column), default=0)
    return r"p{0.28\linewidth}" if longest > LONGEST else "l"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(escaped(cell) for cell in cells) + r" \\"


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "--"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return re.sub(r"(?<![\w.-])-(?=\d)", "\N{MINUS SIGN}", text)


def with_names(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The columns named, in that order, under the names that a reader sees."""
    return frame[list(names)].rename(columns=dict(names))
