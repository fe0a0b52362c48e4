"""Where two runs part: the first step and quantity, in the order in which one follows from the other, and why.

At each step the weights give rollouts and evaluations, the rollouts rewards, advantages and updates, and those the
next weights. Once a token differs everything after it does, and says nothing more.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from harness.compare.rows import first_row, in_both, logprob_detail, row_detail, same, shown
from harness.errors import UsageError
from harness.run.history import History


@dataclass(frozen=True)
class Quantity:
    """A part of a step's records, and what decides it besides all that comes before."""

    name: str
    columns: tuple[str, ...]
    stream: str | None  # its random stream, keyed by the seed
    settings: tuple[str, ...]

    def divergence(self, step: int | None, detail: str) -> "Divergence":
        """That it is the first to differ."""
        return Divergence(step, self.name, detail, self.stream, self.settings)


SAMPLED = (
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
)
ADVANTAGES = Quantity(
    "advantages", ("trained", "advantage"), None, ("advantage_scale", "advantage_std_eps", "unfilled")
)
OLD_LOGPROBS = Quantity(
    "old log-probabilities", ("old_logprobs",), None, ("micro_batch_size", "minibatches", "dtype", "threads")
)
EVALUATION = Quantity(
    "evaluation",
    ("prompt_id", "sample", "text", "answer", "correct", "outcome", "response_tokens", "truncated"),
    "eval",
    (
        "eval_prompts",
        "eval_samples",
        "final_evaluations",
        "final_eval_samples",
        "eval_temperature",
        "eval_top_p",
        "eval_every",
        "steps",
    ),
)
WEIGHTS = Quantity("influence weights", ("influence_weight",), None, ())
TOKENS = Quantity("tokens at the last update", ("position", "log_ratio", "future_kl", "influence_weight"), None, ())
UPDATES = Quantity("updates", (), None, ())
FINAL_WEIGHTS = Quantity("final weights", (), None, ())
LEARNED = UPDATES.name, WEIGHTS.name, TOKENS.name, FINAL_WEIGHTS.name  # what loss and optimizer decide


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
    return weights_differ(ours, theirs) if ours.steps_done == theirs.steps_done else None


def rollouts_differ(ours: History, theirs: History, step: int) -> Divergence | None:
    """The first of the step's rollouts' quantities that differs, where both runs stored them."""
    a, b = ours.table("rollouts", step), theirs.table("rollouts", step)
    if a is None or b is None:
        return None
    for number in sorted({row["round"] for row in (*a, *b)}):  # a round is drawn because of how the one before went
        ours_then, theirs_then = ([row for row in rows if row["round"] == number] for rows in (a, b))
        for quantity in SAMPLED:
            if pair := first_row(ours_then, theirs_then, quantity.columns):
                return quantity.divergence(step, row_detail(pair, quantity.columns))
    if pair := first_row(a, b, ADVANTAGES.columns):
        return ADVANTAGES.divergence(step, row_detail(pair, ADVANTAGES.columns))
    return OLD_LOGPROBS.divergence(step, logprob_detail(a, b)) if first_row(a, b, OLD_LOGPROBS.columns) else None


def evaluations_differ(ours: History, theirs: History, step: int) -> Divergence | None:
    """Whether the answers after `step` steps differ, where both runs have them."""
    a, b = ours.table("evals", step), theirs.table("evals", step)
    if a is None or b is None:
        return None
    pair = first_row(*in_both(a, b), EVALUATION.columns)
    return EVALUATION.divergence(step, row_detail(pair, EVALUATION.columns)) if pair else None


def updates_differ(ours: History, theirs: History, step: int) -> Divergence | None:
    """What the step's updates or its line of metrics show, where all before it is the same."""
    a, b = ours.table("rollouts", step), theirs.table("rollouts", step)
    pair = first_row(a, b, WEIGHTS.columns) if a is not None and b is not None else None
    if pair:
        return WEIGHTS.divergence(step, row_detail(pair, WEIGHTS.columns))
    both = ours.metrics[step].keys() & theirs.metrics[step].keys()  # an older version has fewer
    kept = [key for key in ours.metrics[step] if key in both and not key.startswith("time/")]
    lines = [{key: run.metrics[step][key] for key in kept} for run in (ours, theirs)]
    keys = [key for key in {**lines[0], **lines[1]} if not same(lines[0].get(key), lines[1].get(key))]
    if not keys:
        return tokens_differ(ours, theirs, step)
    detail = f"{keys[0]} {shown(lines[0].get(keys[0]))} and {shown(lines[1].get(keys[0]))}, {len(keys)} metrics in all"
    return UPDATES.divergence(step, detail)


def tokens_differ(ours: History, theirs: History, step: int) -> Divergence | None:
    """Whether what is stored of single tokens differs."""
    a, b = ours.table("tokens", step), theirs.table("tokens", step)
    pair = first_row(a, b, TOKENS.columns) if a is not None and b is not None else None
    return TOKENS.divergence(step, row_detail(pair, TOKENS.columns)) if pair else None


def weights_differ(ours: History, theirs: History) -> Divergence | None:
    """The first tensor of the final weights that differs, where both runs have finished."""
    files = [run.final_weights / "model.safetensors" for run in (ours, theirs)]
    if not all(file.is_file() for file in files):
        return None
    a, b = (read_weights(file) for file in files)
    for name in sorted({**a, **b}):
        if name not in a or name not in b or a[name].shape != b[name].shape:
            return FINAL_WEIGHTS.divergence(None, f"{name} is not in both with the same shape")
        if not torch.equal(*(each[name].reshape(-1).view(torch.uint8) for each in (a, b))):
            largest = float((a[name].double() - b[name].double()).abs().max())
            return FINAL_WEIGHTS.divergence(None, f"{name} differs by up to {largest:.3g}")
    return None


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors by name. Raises UsageError where the file is damaged."""
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UsageError(f"{file}: expected weights in safetensors, got: {error}") from None


def agreement(ours: History, theirs: History, steps: int) -> tuple[list[str], list[str]]:
    """Of two runs without a divergence: what was compared throughout, and what could not be since one run lacks it."""
    compared, gaps = ["metrics"], []
    for name, kind, last in (("rollouts", "rollouts", steps - 1), ("evaluations", "evals", steps)):
        found = {step: (ours.has_table(kind, step), theirs.has_table(kind, step)) for step in range(last + 1)}
        both = [step for step, there in found.items() if all(there)]
        lacking = [str(step) for step, there in found.items() if not all(there) and (any(there) or kind == "rollouts")]
        if both and not lacking:
            compared.append(name)
        elif lacking:
            gaps.append(f"{name} of step {', '.join(lacking)}")
    finished = [(run.final_weights / "model.safetensors").is_file() for run in (ours, theirs)]
    if all(finished) and ours.steps_done == theirs.steps_done:
        compared.append("final weights")
    elif any(finished):
        gaps.append("final weights")
    return compared, gaps
