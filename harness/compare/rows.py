"""What differs between two tables of a step, row by row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.run.history import Row


def first_row(a: Sequence[Row], b: Sequence[Row], columns: Sequence[str]) -> tuple[Row, Row] | None:
    """The first pair of rows that differ in the columns that both tables have; a missing row is an empty one."""
    shared = [column for column in columns if all(not rows or column in rows[0] for rows in (a, b))]
    for number in range(max(len(a), len(b))):
        row, other = (rows[number] if number < len(rows) else {} for rows in (a, b))
        if not row or not other or any(not same(row[column], other[column]) for column in shared):
            return row, other
    return None


def in_both(a: Sequence[Row], b: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of prompts and samples that both tables have, in the order of the first."""
    theirs = {(row["prompt_id"], row["sample"]): row for row in b}
    ours = [row for row in a if (row["prompt_id"], row["sample"]) in theirs]
    return ours, [theirs[row["prompt_id"], row["sample"]] for row in ours]


def same(value: object, other: object) -> bool:
    """Whether two recorded values are equal; a NaN is equal to a NaN."""
    if value == other:
        return True
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    return value != value and other != other


def row_detail(pair: tuple[Row, Row], columns: Sequence[str]) -> str:
    """What differs between two rows."""
    row, other = pair
    if not row or not other:
        return "one run has more of them"
    place = f"prompt {row['prompt_id']}, sample {row['sample']}: "
    if "tokens" in columns and row["tokens"] != other["tokens"]:
        position = common_length(row["tokens"], other["tokens"])
        return f"{place}token {position}, {token_at(row, position)} and {token_at(other, position)}"
    shared = (column for column in columns if column in row and column in other)
    column = next(column for column in shared if not same(row[column], other[column]))
    return f"{place}{column} {shown(row[column])} and {shown(other[column])}"


def token_at(row: Row, position: int) -> str:
    """The token there, or that the response has ended."""
    tokens = row["tokens"]
    return str(tokens[position]) if position < len(tokens) else "no more"


def common_length(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How far two sequences agree."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def logprob_agreement(a: Sequence[Row], b: Sequence[Row]) -> tuple[float, int] | None:
    """The largest difference of old log-probabilities up to each response's first differing token, over how many."""
    others = {(row["prompt_id"], row["sample"]): row for row in b}
    differences: list[float] = []
    for row in a:
        other = others.get((row["prompt_id"], row["sample"]))
        if other and row["old_logprobs"] is not None and other["old_logprobs"] is not None:
            length = common_length(row["tokens"], other["tokens"])
            ours, theirs = (np.array(each["old_logprobs"][:length], dtype=np.float64) for each in (row, other))
            differences += np.abs(ours - theirs).tolist()
    return (float(np.max(differences)), len(differences)) if differences else None


def logprob_detail(a: Sequence[Row], b: Sequence[Row]) -> str:
    """How far apart they are where the tokens agree."""
    found = logprob_agreement(a, b)
    return f"up to {found[0]:.3g} apart over {found[1]:,} tokens" if found else "only one run has them"


def shown(value: object) -> str:
    """A value, cut to fit a line."""
    text = f"{value:.9g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
