"""Tables -> LaTeX (booktabs), ready to be \\input."""

from collections.abc import Mapping, Sequence

import pandas as pd

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
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(frame[name]) else "l" for name in frame)
    lines = [f"% {line}" for line in about]
    lines += [r"\begin{table}[t]", r"\centering", rf"\caption{{{escaped(caption)}}}", rf"\label{{{label}}}"]
    lines += [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", _row([str(name) for name in frame]), r"\midrule"]
    lines += [_row([_cell(value) for value in row]) for row in frame.itertuples(index=False)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """The text with all that LaTeX would read as commands made plain."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(escaped(cell) for cell in cells) + r" \\"


def _cell(value: object) -> str:
    if value is None or value != value:
        return "--"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def with_names(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The columns named, in that order, under the names that a reader sees."""
    return frame[list(names)].rename(columns=dict(names))
