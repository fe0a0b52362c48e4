"""Finds where two runs diverge: the first step and quantity that differ, in causal order.

At each step the weights determine rollouts and evaluations; rollouts determine rewards, advantages and updates; updates
determine the next weights. After the first differing token everything differs, so nothing is claimed about later steps.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import torch
from safetensors.torch import load_file

from harness.run.history import History, Row

SAMPLED = "prompts", "tokens", "rewards"  # in each sampling round, which depends on the outcome of the one before
COLUMNS = {  # that record each quantity in its table
    "prompts": "round prompt_id sample prompt target",
    "tokens": "tokens text response_tokens truncated",
    "rewards": "correct outcome reward",
    "advantages": "trained advantage",
    "old log-probabilities": "old_logprobs",
    "evaluation": "prompt_id sample text answer correct outcome response_tokens truncated",
    "influence weights": "influence_weight",
    "tokens at the last update": "position log_ratio future_kl influence_weight",
}


def first_divergence(ours: History, theirs: History) -> str | None:
    """The step, quantity and values at which two runs first differ, over the steps that both have done, or None."""
    steps = min(ours.steps_done, theirs.steps_done)
    for step in range(steps + 1):
        if found := next(divergences(ours, theirs, step), None):
            return f"step {step}, {found}"
    found = weights_differ(ours, theirs) if ours.steps_done == theirs.steps_done else None
    return f"after the last step, final weights: {found}" if found else None


def divergences(ours: History, theirs: History, step: int) -> Iterator[str]:
    """The differences at a step, in causal order. Tables that only one run has are skipped."""
    rollouts, evals, tokens = (both(ours, theirs, kind, step) for kind in ("rollouts", "evals", "tokens"))
    for number in sorted({row["round"] for rows in rollouts for row in rows}):
        drawn = [[row for row in rows if row["round"] == number] for rows in rollouts]
        for quantity in SAMPLED:
            yield from rows_differ(quantity, *drawn)
    for quantity in ("advantages", "old log-probabilities"):
        yield from rows_differ(quantity, *rollouts)
    yield from rows_differ("evaluation", *in_both(*evals))
    yield from rows_differ("influence weights", *rollouts)
    if step < min(ours.steps_done, theirs.steps_done):
        yield from metrics_differ(ours.metrics[step], theirs.metrics[step])
    yield from rows_differ("tokens at the last update", *tokens)


def both(ours: History, theirs: History, kind: str, step: int) -> tuple[list[Row], list[Row]]:
    """The step's table from both runs; empty unless both have it."""
    a, b = ours.table(kind, step), theirs.table(kind, step)
    return ([], []) if a is None or b is None else (a, b)


def rows_differ(quantity: str, a: Sequence[Row], b: Sequence[Row]) -> Iterator[str]:
    """The differences in the quantity's columns, of those that both tables have; NaN equals NaN."""
    for row, other in zip_longest(a, b):
        if row is None or other is None:
            yield f"{quantity}: one run has more of them"
            return
        for column in COLUMNS[quantity].split():
            value, theirs = row.get(column), other.get(column)
            if column in row and column in other and repr(value) != repr(theirs):
                if isinstance(value, list) and isinstance(theirs, list):
                    pairs = enumerate(zip_longest(value, theirs, fillvalue="no more"))
                    position, (value, theirs) = next(pair for pair in pairs if repr(pair[1][0]) != repr(pair[1][1]))
                    column = f"{column}[{position}]"
                place = f"prompt {row['prompt_id']}, sample {row['sample']}"
                yield f"{quantity}: {place}: {column} {shown(value)} and {shown(theirs)}"


def metrics_differ(line: Row, other: Row) -> Iterator[str]:
    """The metrics that differ, except times and metrics that only one run has (older versions record fewer)."""
    shared = [key for key in line if key in other and not key.startswith("time/")]
    if keys := [key for key in shared if line[key] != other[key]]:
        values = f"{shown(line[keys[0]])} and {shown(other[keys[0]])}"
        yield f"updates: {keys[0]} {values}, {len(keys)} metrics in all"


def weights_differ(ours: History, theirs: History) -> str | None:
    """The first tensor of the final weights that differs, or None; compared only if both runs have finished."""
    files = [run.final_weights / "model.safetensors" for run in (ours, theirs)]
    if not all(file.is_file() for file in files):
        return None
    a, b = map(load_file, files)
    for name in sorted({**a, **b}):
        if name not in a or name not in b or a[name].shape != b[name].shape:
            return f"{name} is not in both with the same shape"
        if not torch.equal(*(each[name].reshape(-1).view(torch.uint8) for each in (a, b))):
            largest = float((a[name].double() - b[name].double()).abs().max())
            return f"{name} differs by up to {largest:.3g}"
    return None


def agreement(ours: History, theirs: History, steps: int) -> tuple[str, str]:
    """For two runs without a divergence: what is equal, and a line on what could not be compared, or ''."""
    compared, gaps = ["metrics"], []
    for name, kind, last in (("rollouts", "rollouts", steps - 1), ("evaluations", "evals", steps)):
        found = {step: (ours.has_table(kind, step), theirs.has_table(kind, step)) for step in range(last + 1)}
        lacking = [str(step) for step, there in found.items() if not all(there) and (any(there) or kind == "rollouts")]
        if lacking:
            gaps.append(f"{name} of step {', '.join(lacking)}")
        elif any(map(all, found.values())):
            compared.append(name)
    finished = [(run.final_weights / "model.safetensors").is_file() for run in (ours, theirs)]
    if any(finished):
        is_compared = all(finished) and ours.steps_done == theirs.steps_done
        (compared if is_compared else gaps).append("final weights")
    return ", ".join(compared), f"not compared, since not both runs have them: {'; '.join(gaps)}\n" if gaps else ""


def in_both(a: Sequence[Row], b: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows whose (prompt, sample) is in both tables, in the order of the first table."""
    theirs = {(row["prompt_id"], row["sample"]): row for row in b}
    ours = [row for row in a if (row["prompt_id"], row["sample"]) in theirs]
    return ours, [theirs[row["prompt_id"], row["sample"]] for row in ours]


def shown(value: object) -> str:
    """A value as text of at most 60 characters."""
    text = f"{value:.9g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
