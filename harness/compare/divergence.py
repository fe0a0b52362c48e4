"""Finds where two runs diverge: the first step and quantity that differ, in causal order.

At each step the weights determine rollouts and evaluations; rollouts determine rewards, advantages and updates; updates
determine the next weights. After the first differing token everything differs, so nothing is claimed about later steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from harness.errors import as_usage_error
from harness.run.history import History, Row


@dataclass(frozen=True)
class Divergence:
    """The first difference between two runs."""

    step: int | None  # None: after the last step
    quantity: str
    detail: str


SAMPLED = "prompts", "tokens", "rewards"
COLUMNS = {  # that record each quantity in its table
    "prompts": "round prompt_id sample prompt target",
    "tokens": "tokens text response_tokens truncated",
    "rewards": "correct outcome reward",
    "advantages": "trained advantage",
    "evaluation": "prompt_id sample text answer correct outcome response_tokens truncated",
    "influence weights": "influence_weight",
    "tokens at the last update": "position log_ratio future_kl influence_weight",
}


def first_divergence(ours: History, theirs: History) -> Divergence | None:
    """The first difference between two runs over the steps that both have done, or None."""
    steps = min(ours.steps_done, theirs.steps_done)
    for step in range(steps + 1):
        if found := next(divergences(ours, theirs, step, step < steps), None):
            return found
    return weights_differ(ours, theirs) if ours.steps_done == theirs.steps_done else None


def divergences(ours: History, theirs: History, step: int, is_trained: bool) -> Iterator[Divergence]:
    """The differences at a step, in causal order. Tables that only one run has are skipped."""
    rollouts = both(ours, theirs, "rollouts", step) if is_trained else None
    if rollouts:
        yield from rollouts_differ(step, *rollouts)
    if evals := both(ours, theirs, "evals", step):
        yield from rows_differ(step, "evaluation", *in_both(*evals))
    if rollouts:
        yield from rows_differ(step, "influence weights", *rollouts)
    if is_trained:
        yield from metrics_differ(step, ours.metrics[step], theirs.metrics[step])
        if tokens := both(ours, theirs, "tokens", step):
            yield from rows_differ(step, "tokens at the last update", *tokens)


def both(ours: History, theirs: History, kind: str, step: int) -> tuple[list[Row], list[Row]] | None:
    """The step's table from both runs, or None unless both have it."""
    a, b = ours.table(kind, step), theirs.table(kind, step)
    return None if a is None or b is None else (a, b)


def rows_differ(step: int, quantity: str, a: Sequence[Row], b: Sequence[Row]) -> Iterator[Divergence]:
    """Yield a divergence if the rows differ in the quantity's columns."""
    columns = COLUMNS[quantity].split()
    if pair := first_row(a, b, columns):
        yield Divergence(step, quantity, row_detail(pair, columns))


def rollouts_differ(step: int, a: list[Row], b: list[Row]) -> Iterator[Divergence]:
    """Differences of the rollouts, round by round, since a round depends on the outcome of the previous one."""
    for number in sorted({row["round"] for row in (*a, *b)}):
        ours, theirs = ([row for row in rows if row["round"] == number] for rows in (a, b))
        for quantity in SAMPLED:
            yield from rows_differ(step, quantity, ours, theirs)
    yield from rows_differ(step, "advantages", a, b)
    if first_row(a, b, ["old_logprobs"]):
        found = logprob_agreement(a, b)
        apart = f"up to {found[0]:.3g} apart over {found[1]:,} tokens" if found else "only one run has them"
        yield Divergence(step, "old log-probabilities", apart)


def metrics_differ(step: int, line: Row, other: Row) -> Iterator[Divergence]:
    """The metrics that differ, except times and metrics that only one run has (older versions record fewer)."""
    keys = [key for key in line if key in other and not key.startswith("time/") and not same(line[key], other[key])]
    if keys:
        values = f"{shown(line[keys[0]])} and {shown(other[keys[0]])}"
        yield Divergence(step, "updates", f"{keys[0]} {values}, {len(keys)} metrics in all")


def weights_differ(ours: History, theirs: History) -> Divergence | None:
    """The first tensor of the final weights that differs, or None; compared only if both runs have finished.

    Raises UsageError if a file is damaged.
    """
    files = [run.final_weights / "model.safetensors" for run in (ours, theirs)]
    if not all(file.is_file() for file in files):
        return None
    loaded: list[dict[str, torch.Tensor]] = []
    for file in files:
        with as_usage_error(f"{file}: expected weights in safetensors, got"):
            loaded.append(load_file(file))
    a, b = loaded
    for name in sorted({**a, **b}):
        if name not in a or name not in b or a[name].shape != b[name].shape:
            return Divergence(None, "final weights", f"{name} is not in both with the same shape")
        if not torch.equal(*(each[name].reshape(-1).view(torch.uint8) for each in (a, b))):
            largest = float((a[name].double() - b[name].double()).abs().max())
            return Divergence(None, "final weights", f"{name} differs by up to {largest:.3g}")
    return None


def explained(ours: History, theirs: History, divergence: Divergence) -> list[str]:
    """Lines that say where two runs diverge, and how far log-probabilities agree there."""
    step = divergence.step
    where = "after the last step" if step is None else f"step {step}"
    lines = [f"first difference: {where}, {divergence.quantity}: {divergence.detail}"]
    rollouts = both(ours, theirs, "rollouts", step) if step is not None else None
    if rollouts and (found := logprob_agreement(*rollouts)):
        lines.append(
            f"  log-probabilities of step {step} up to the first differing token of each response: "
            f"within {found[0]:.3g} over {found[1]:,} tokens"
        )
    return [*lines, "nothing is claimed about what comes after it"]


def agreement(ours: History, theirs: History, steps: int) -> list[str]:
    """For two runs without a divergence: a line on what could not be compared, if anything, then what is equal."""
    compared, gaps = ["metrics"], []
    for name, kind, last in (("rollouts", "rollouts", steps - 1), ("evaluations", "evals", steps)):
        found = {step: (ours.has_table(kind, step), theirs.has_table(kind, step)) for step in range(last + 1)}
        lacking = [str(step) for step, there in found.items() if not all(there) and (any(there) or kind == "rollouts")]
        if lacking:
            gaps.append(f"{name} of step {', '.join(lacking)}")
        elif any(map(all, found.values())):
            compared.append(name)
    finished = [(run.final_weights / "model.safetensors").is_file() for run in (ours, theirs)]
    if all(finished) and ours.steps_done == theirs.steps_done:
        compared.append("final weights")
    elif any(finished):
        gaps.append("final weights")
    lines = [f"not compared, since not both runs have them: {'; '.join(gaps)}"] if gaps else []
    return [*lines, ", ".join(compared)]


def first_row(a: Sequence[Row], b: Sequence[Row], columns: Sequence[str]) -> tuple[Row, Row] | None:
    """The first pair of rows that differ in a column of both tables, or None; a missing row is an empty dict."""
    shared = [column for column in columns if all(not rows or column in rows[0] for rows in (a, b))]
    for number in range(max(len(a), len(b))):
        row, other = (rows[number] if number < len(rows) else {} for rows in (a, b))
        if not row or not other or any(not same(row[column], other[column]) for column in shared):
            return row, other
    return None


def in_both(a: Sequence[Row], b: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows whose (prompt, sample) is in both tables, in the order of the first table."""
    theirs = {(row["prompt_id"], row["sample"]): row for row in b}
    ours = [row for row in a if (row["prompt_id"], row["sample"]) in theirs]
    return ours, [theirs[row["prompt_id"], row["sample"]] for row in ours]


def same(value: object, other: object) -> bool:
    """Whether two recorded values are equal; NaN equals NaN."""
    if value == other:
        return True
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(same, value, other))
    return value != value and other != other


def row_detail(pair: tuple[Row, Row], columns: Sequence[str]) -> str:
    """A phrase that says how two rows differ."""
    row, other = pair
    if not row or not other:
        return "one run has more of them"
    place = f"prompt {row['prompt_id']}, sample {row['sample']}: "
    if "tokens" in columns and row["tokens"] != other["tokens"]:
        position = common_length(row["tokens"], other["tokens"])
        tokens = ((*each["tokens"], "no more")[position] for each in pair)
        return f"{place}token {position}, {' and '.join(map(str, tokens))}"
    shared = (column for column in columns if column in row and column in other)
    column = next(column for column in shared if not same(row[column], other[column]))
    return f"{place}{column} {shown(row[column])} and {shown(other[column])}"


def common_length(a: Sequence[Any], b: Sequence[Any]) -> int:
    """The length of the longest common prefix."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def logprob_agreement(a: Sequence[Row], b: Sequence[Row]) -> tuple[float, int] | None:
    """(largest difference, count) of old log-probabilities up to each response's first differing token, or None."""
    differences: list[float] = []
    for row, other in zip(*in_both(a, b), strict=True):
        if row["old_logprobs"] is not None and other["old_logprobs"] is not None:
            length = common_length(row["tokens"], other["tokens"])
            ours, theirs = (np.array(each["old_logprobs"][:length], dtype=np.float64) for each in (row, other))
            differences += np.abs(ours - theirs).tolist()
    return (float(np.max(differences)), len(differences)) if differences else None


def shown(value: object) -> str:
    """A value as text of at most 60 characters."""
    text = f"{value:.9g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
