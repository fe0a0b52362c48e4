"""Where two runs part: the first step and quantity, in the order in which one follows from the other, and why.

At each step the weights give rollouts and evaluations, the rollouts rewards, advantages and updates, and those the
next weights. Once a token differs everything after it does, and says nothing more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from harness.config import Config
from harness.environment import differing
from harness.history import History, Row
from harness.settings import flatten, tree_of


@dataclass(frozen=True)
class Quantity:
    """A part of a step's records, and what decides it besides all that comes before."""

    name: str
    columns: tuple[str, ...]
    stream: str | None  # its random stream, keyed by the seed
    settings: tuple[str, ...]


ROLLOUTS = (
    Quantity(
        "prompts",
        ("round", "prompt_id", "sample", "prompt", "target"),
        "data",
        ("task", "prompts_per_step", "group_size", "dynamic_sampling", "max_sampling_rounds"),
    ),
    Quantity(
        "tokens",
        ("tokens", "text", "response_tokens", "truncated"),
        "rollout",
        ("temperature", "max_response_tokens", "model", "model_revision", "model_seed", "dtype", "threads"),
    ),
    Quantity(
        "rewards", ("correct", "outcome", "reward"), "random reward", ("control", "overlong_buffer", "overlong_factor")
    ),
    Quantity("advantages", ("trained", "advantage"), None, ("advantage_scale", "advantage_std_eps", "unfilled")),
    Quantity("old log-probabilities", ("old_logprobs",), None, ("micro_batch_size", "minibatches", "dtype", "threads")),
)
EVALUATION = Quantity(
    "evaluation",
    ("prompt_id", "sample", "text", "answer", "correct", "outcome", "response_tokens", "truncated"),
    "eval",
    ("eval_prompts", "eval_samples", "final_eval_samples", "eval_temperature", "eval_top_p", "eval_every", "steps"),
)
WEIGHTS = Quantity("influence weights", ("influence_weight",), None, ())
UPDATES = "updates", WEIGHTS.name, "final weights"  # what loss and optimizer decide


@dataclass(frozen=True)
class Divergence:
    """The first difference between two runs."""

    step: int | None  # None: after the last step
    quantity: str
    detail: str
    stream: str | None
    settings: tuple[str, ...]


def first_divergence(ours: History, theirs: History) -> Divergence | None:
    """The first difference over the steps that both runs have, or None."""
    steps = min(ours.steps_done, theirs.steps_done)
    for step in range(steps + 1):
        found = (
            (rollouts_differ(ours, theirs, step) if step < steps else None)
            or evaluations_differ(ours, theirs, step)
            or (updates_differ(ours, theirs, step) if step < steps else None)
        )
        if found:
            return found
    return weights_differ(ours, theirs)


def rollouts_differ(ours: History, theirs: History, step: int) -> Divergence | None:
    """The first of the step's rollouts' quantities that differs, where both runs stored them."""
    a, b = ours.table("rollouts", step), theirs.table("rollouts", step)
    if a is None or b is None:
        return None
    for quantity in ROLLOUTS:
        if row := first_row(a, b, quantity.columns):
            detail = logprob_detail(a, b) if quantity.name == "old log-probabilities" else row_detail(row, quantity)
            return Divergence(step, quantity.name, detail, quantity.stream, quantity.settings)
    return None


def evaluations_differ(ours: History, theirs: History, step: int) -> Divergence | None:
    """Whether the answers after `step` steps differ, where both runs have them."""
    a, b = ours.table("evals", step), theirs.table("evals", step)
    if a is None or b is None:
        return None
    row = first_row(a, b, EVALUATION.columns)
    if row is None:
        return None
    return Divergence(step, EVALUATION.name, row_detail(row, EVALUATION), EVALUATION.stream, EVALUATION.settings)


def updates_differ(ours: History, theirs: History, step: int) -> Divergence | None:
    """What the step's updates or its line of metrics show, where all before it is the same."""
    a, b = ours.table("rollouts", step), theirs.table("rollouts", step)
    row = first_row(a, b, WEIGHTS.columns) if a is not None and b is not None else None
    if row:
        return Divergence(
            step, WEIGHTS.name, row_detail(row, Quantity(WEIGHTS.name, ("influence_weight",), None, ())), None, ()
        )
    lines = [{key: v for key, v in run.metrics[step].items() if not key.startswith("time/")} for run in (ours, theirs)]
    keys = [key for key in {**lines[0], **lines[1]} if lines[0].get(key) != lines[1].get(key)]
    if not keys:
        return None
    detail = f"{keys[0]} {shown(lines[0].get(keys[0]))} and {shown(lines[1].get(keys[0]))}, {len(keys)} metrics in all"
    return Divergence(step, UPDATES[0], detail, None, ())


def weights_differ(ours: History, theirs: History) -> Divergence | None:
    """The first tensor of the final weights that differs, where both runs have finished."""
    files = [run.final_weights / "model.safetensors" for run in (ours, theirs)]
    if not all(file.is_file() for file in files):
        return None
    a, b = (load_file(file) for file in files)
    for name in sorted({**a, **b}):
        if name not in a or name not in b or a[name].shape != b[name].shape:
            return Divergence(None, UPDATES[2], f"{name} is not in both with the same shape", None, ())
        if not torch.equal(a[name], b[name]):
            largest = float((a[name].double() - b[name].double()).abs().max())
            return Divergence(None, UPDATES[2], f"{name} differs by up to {largest:.3g}", None, ())
    return None


def first_row(a: Sequence[Row], b: Sequence[Row], columns: Sequence[str]) -> tuple[Row, Row] | None:
    """The first pair of rows that differ in these columns; a missing row is an empty one."""
    for number in range(max(len(a), len(b))):
        row, other = (rows[number] if number < len(rows) else {} for rows in (a, b))
        if any(row.get(column) != other.get(column) for column in columns):
            return row, other
    return None


def row_detail(pair: tuple[Row, Row], quantity: Quantity) -> str:
    """What differs between two rows."""
    row, other = pair
    if not row or not other:
        return "one run has more of them"
    place = f"prompt {row['prompt_id']}, sample {row['sample']}: "
    if quantity.name == "tokens" and row["tokens"] != other["tokens"]:
        position = common_length(row["tokens"], other["tokens"])
        return f"{place}token {position}, {token_at(row, position)} and {token_at(other, position)}"
    column = next(column for column in quantity.columns if row.get(column) != other.get(column))
    return f"{place}{column} {shown(row.get(column))} and {shown(other.get(column))}"


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


def settings_that_differ(ours: Config, theirs: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by flag; where a run is written is no difference."""
    a, b = flatten(tree_of(ours)), flatten(tree_of(theirs))
    return {flag: (a[flag], b[flag]) for flag in a if a[flag] != b[flag] and flag != "output_dir"}


def causes(ours: History, theirs: History, divergence: Divergence) -> Iterator[str]:
    """What differed first among the inputs of the quantity that diverged: stream, settings, surroundings."""
    settings = settings_that_differ(ours.config, theirs.config)
    surroundings = differing(ours.environment, theirs.environment)
    if divergence.stream and "seed" in settings:
        mine, other = settings["seed"]
        yield f"the random stream (seed, {divergence.stream!r}, ...): seeds {mine} and {other}"
    for flag, (mine, other) in settings.items():
        if flag in divergence.settings or (divergence.quantity in UPDATES and flag in learning_flags(ours)):
            yield f"the setting --{flag}: {mine} and {other}"
    if "model_sha256" in surroundings:
        yield "the initial weights"
    for name, (mine, other) in surroundings.items():
        if name not in ("model_sha256", "platform"):
            yield f"{name}: {shown(mine)} and {shown(other)}"


def learning_flags(run: History) -> set[str]:
    """The flags of loss and optimizer."""
    tree = tree_of(run.config)
    return {*tree["loss"], *tree["optimizer"], "control"}


def explained(ours: History, theirs: History, divergence: Divergence) -> list[str]:
    """The lines that say where two runs part and why; no claim is made after that point."""
    where = "after the last step" if divergence.step is None else f"step {divergence.step}"
    lines = [f"first difference: {where}, {divergence.quantity}: {divergence.detail}"]
    reasons = list(causes(ours, theirs, divergence))
    lines += [f"  from {reason}" for reason in reasons]
    if not reasons:
        lines.append("  from no setting, stream or part of the surroundings that was recorded")
    if divergence.step is not None:
        a, b = (run.table("rollouts", divergence.step) for run in (ours, theirs))
        found = logprob_agreement(a, b) if a is not None and b is not None else None
        if found:
            lines.append(
                f"  log-probabilities of step {divergence.step} up to the first differing token of each response: "
                f"within {found[0]:.3g} over {found[1]:,} tokens"
            )
    return [*lines, "nothing is claimed of what comes after it"]
