"""Looks at chosen steps of a recorded run: the gradient of every candidate, the true direction, and the true credit.

The run is repeated from its stored rollouts, so every candidate sees the weights, responses and old log-probabilities
that the run's own loss saw. Credit is that under the policy which sampled the responses. A step's results are two
files, written when the step is done; a step that has both is not measured again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from harness.compare.repeat import Repeat, Step, begin_repeat, check_rollouts, trained_rows
from harness.console import doing, output, say
from harness.errors import UsageError
from harness.files import json_object, write_json, write_table
from harness.microscope.candidates import Candidate, Probe, chosen_candidates, config_of, probes
from harness.microscope.direction import Reference, dot, reference, trained
from harness.microscope.values import Credit, monte_carlo_credit
from harness.rollouts.engine import Key
from harness.run.history import History

Line = dict[str, Any]
Column = Mapping[tuple[str, int], np.ndarray]  # values by token, by prompt and sample


@dataclass(frozen=True)
class Plan:
    """What is measured, and at what cost."""

    steps: tuple[int, ...]
    updates: int  # looked at in each step
    responses: int  # fresh ones for the true direction at each update
    group: int  # of them to a prompt
    segments: int  # of a response at most, for the true credit
    continuations: int  # from the start of each

    def looked_at(self, updates: int) -> list[int]:
        """Which of a step's updates: spread evenly over those whose minibatch has seen another update before.

        At a step's first update all ratios are 1, so there FIPO is DAPO.
        """
        if updates <= self.updates:
            return list(range(updates))
        return sorted({1 + (updates - 2) * index // max(1, self.updates - 1) for index in range(self.updates)})


def run_microscope(history: History, plan: Plan, losses: str, out: Path) -> Iterator[list[Line]]:
    """Measure each step of the plan that `out` does not have yet; yields its lines, one per candidate and update.

    losses: as `chosen_candidates` takes them. Raises UsageError if `out` holds another plan, or if the run's rollouts
    or the weights to start from are missing.
    """
    missing = [step for step in plan.steps if not is_done(out, step)]
    repeat = begin_repeat(history, (missing or plan.steps)[0])
    candidates = chosen_candidates(losses, has_steps(repeat))
    for candidate in candidates.values():
        config_of(candidate, repeat.config)  # refuses what the run's settings exclude
    check_rollouts(history, range(repeat.training.steps_done, 1 + max(missing, default=-1)))
    keep_plan(out, history, plan, candidates)
    say(cost(history, plan, missing, len(candidates)))
    for number in missing:
        while repeat.training.steps_done < number:
            repeat.advance()
        lines, rows = measured(repeat, repeat.next_step(), plan, candidates)
        repeat.training.steps_done += 1
        write_table(out / f"tokens_{number:06d}.parquet", rows, schema_of(rows))
        write_json(out / f"step_{number:06d}.json", {"lines": lines})
        yield lines
    say(f"old log-probabilities within {repeat.off:.3g} of those recorded")


def has_steps(repeat: Repeat) -> bool:
    """Whether the task can tell the first wrong step of a response."""
    maker = getattr(repeat.training.task, "maker", repeat.training.task)
    return repeat.config.task.task != "math" and callable(getattr(maker, "first_wrong_step", None))


def cost(history: History, plan: Plan, steps: Sequence[int], candidates: int) -> str:
    """What is still to be done, and how many responses it takes."""
    lengths = [len(row["tokens"]) for step in steps for row in trained_rows(history, step)]
    prefixes = sum(min(length, plan.segments) for length in lengths)
    fresh = len(steps) * plan.updates * plan.responses
    return (
        f"microscope of {history.path}: {candidates} candidates at {len(steps)} of {len(plan.steps)} steps, "
        f"{plan.updates} updates each; about {fresh:,} responses for the true gradient, at most "
        f"{prefixes * plan.continuations:,} from {prefixes:,} prefixes for the true credit"
    )


def keep_plan(out: Path, history: History, plan: Plan, candidates: Mapping[str, Candidate]) -> None:
    """Write microscope.json, or check that the folder's is the same."""
    asked = {
        "run": history.path.name,
        "seed": history.config.run.seed,
        "plan": asdict(plan) | {"steps": list(plan.steps)},
        "candidates": {name: asdict(candidate) for name, candidate in candidates.items()},
    }
    path = out / "microscope.json"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, asked)
    elif (kept := json_object(path)) != asked:
        differ = [name for name in asked if (kept or {}).get(name) != asked[name]]
        raise UsageError(
            f"{out}: expected a new folder or one of this very plan, got another {' and '.join(differ)}: name another "
            "with --output_dir"
        )


def is_done(out: Path, step: int) -> bool:
    return (out / f"step_{step:06d}.json").exists()


def measured(
    repeat: Repeat, step: Step, plan: Plan, candidates: Mapping[str, Candidate]
) -> tuple[list[Line], list[Line]]:
    """The step's lines, one per candidate and update, and its rows, one per segment and update; takes its updates."""
    training, own = repeat.training, repeat.training.updater
    context, name = training.sampler_context(repeat.config), f"{repeat.history.path.name}, step {step.number}"
    output.part = name
    key: Key = (repeat.config.run.seed, "microscope", step.number)
    responses = [response for group in step.groups for response in group]
    found = monte_carlo_credit(context, responses, plan.segments, plan.continuations, key)
    credit = {response.key: one for response, one in zip(responses, found, strict=True)}
    probed = probes(candidates, step.groups, training.task, own)
    numbers = list(step.updates(repeat.config.optimizer.epochs))
    chosen = plan.looked_at(len(numbers))
    lines: list[Line] = []
    rows: list[Line] = []
    for number, index in numbers:
        if number in chosen:
            output.part = f"{name}, update {number + 1} of {len(numbers)}"
            truth = reference(context, plan.responses // plan.group // 2, plan.group, (*key, number))
            here = {"step": step.number, "update": number}
            seen, more = looked(step, index, truth, probed, credit)
            lines += [here | line for line in seen]
            rows += [here | row for row in more]
        repeat.update(step, index)
    return lines, rows


def looked(
    step: Step, index: int, truth: Reference, probed: Mapping[str, Probe], credit: Mapping[tuple[str, int], Credit]
) -> tuple[list[Line], list[Line]]:
    """Every candidate on one minibatch: its gradient beside the true direction, and its weights beside the credit."""
    lines, columns = [], dict[str, Column]()
    for name, probe in probed.items():
        doing(f"gradient of {name}")
        found = probe.measure(index, step.known[index], credit)
        gradient = [parameter.grad for parameter in trained(probe.updater.policy.model)]
        first, second = (dot(gradient, half) for half in truth.halves)
        lines.append({"candidate": name, "norm": found.norm, "along_first": first, "along_second": second})
        for column in found.columns:
            columns.setdefault(f"weight/{name}" if column == "weight" else column, found.of(column))
    norms = dict(zip(("first_norm", "second_norm"), truth.norms, strict=True))
    of_all = norms | {"product": truth.product, "accuracy": truth.accuracy}
    rows = [
        row
        for batch in step.minibatches[index]
        for response, advantage in zip(batch.responses, batch.group_advantages, strict=True)
        for row in segments(response.key, advantage, credit[response.key], columns)
    ]
    return [line | of_all for line in lines], rows


def segments(key: tuple[str, int], advantage: float, credit: Credit, columns: Mapping[str, Column]) -> Iterator[Line]:
    """A row per segment of a response, each column its mean over the segment's tokens."""
    values = {name: of[key] for name, of in columns.items()}
    count = len(next(iter(values.values())))
    lengths = credit.lengths(count)
    means = {name: np.add.reduceat(one, credit.starts) / lengths for name, one in values.items()}
    for place, start in enumerate(credit.starts):
        first, second = credit.advantages[:, place]
        yield {
            "prompt_id": key[0],
            "sample": key[1],
            "start": start,
            "tokens": lengths[place],
            "response_tokens": count,
            "advantage": advantage,
            "value": float(credit.values[:, place].mean()),
            "credit_first": first,
            "credit_second": second,
            **{name: float(mean[place]) for name, mean in means.items()},
        }


WHOLE = "step", "update", "sample", "start", "tokens", "response_tokens"


def schema_of(rows: Sequence[Line]) -> pa.Schema:
    types = {"prompt_id": pa.string()} | dict.fromkeys(WHOLE, pa.int32())
    return pa.schema([(name, types.get(name, pa.float64())) for name in (rows[0] if rows else ())])
