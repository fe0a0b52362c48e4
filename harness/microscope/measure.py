"""Compares candidates at chosen steps of a run: their gradients with the true one, their weights with true credit.

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

from harness.algorithm.batching import MicroBatch
from harness.compare.repeat import Repeat, Step, begin_repeat, trained_rows
from harness.config.resolve import config_sha256
from harness.console import doing, output, say
from harness.errors import UsageError
from harness.files import json_object, sha256_of, write_json, write_table
from harness.microscope.candidates import Candidate, Column, Credits, chosen_candidates, config_of, has_steps, probes
from harness.microscope.direction import finite, fresh_problems, reference, trained
from harness.microscope.values import monte_carlo_credit
from harness.rollouts.engine import Key
from harness.run.history import History

PLAN = "microscope.json"
INTEGERS = "step", "update", "sample", "start", "tokens", "response_tokens"
FIXED = (*INTEGERS, "prompt_id", "advantage", "value", "credit_first", "credit_second")
Line = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is measured, and at what cost."""

    steps: tuple[int, ...]
    updates: int  # of each step
    responses: int  # fresh ones for both estimates of the true gradient, at each update
    group: int  # of these, per prompt
    prefixes: int  # valued per response, at most
    continuations: int  # per prefix

    @property
    def prompts(self) -> int:
        """Of each estimate of the true gradient."""
        return self.responses // self.group // 2

    def chosen(self, updates: int) -> list[int]:
        """Which of a step's updates are measured: spread evenly over all but the first, where FIPO is DAPO.

        Of a step with a single update, which is on-policy, that one.
        """
        if updates <= self.updates + 1:
            return list(range(1, updates)) or [0]
        return sorted({1 + (updates - 2) * index // max(1, self.updates - 1) for index in range(self.updates)})


def missing_steps(plan: Plan, out: Path) -> list[int]:
    """The steps of the plan that `out` does not have yet."""
    return [step for step in plan.steps if not all(file.exists() for file in files_of_step(out, step))]


def files_of_step(out: Path, step: int) -> tuple[Path, Path]:
    return out / f"tokens_{step:06d}.parquet", out / f"step_{step:06d}.json"


def run_microscope(history: History, plan: Plan, losses: str, out: Path) -> Iterator[list[Line]]:
    """Measure each step of the plan that `out` does not have yet; yields its lines, one per candidate and update.

    losses: as `chosen_candidates` takes them. Raises UsageError if `out` holds another plan, if the run's rollouts or
    the weights to start from are missing, or if the task has too few prompts.
    """
    candidates = chosen_candidates(losses, has_steps(history.config))
    for candidate in candidates.values():
        config_of(candidate, history.config)  # refuses what the run's settings exclude
    asked = checked_plan(out, history, plan, candidates)
    missing = missing_steps(plan, out)
    if not missing:
        return
    repeat = begin_repeat(history, missing[0])
    history.check_rollouts(range(repeat.training.steps_done, missing[-1] + 1))
    fresh_problems(repeat.training.sampler_context(repeat.config), plan.prompts, ("microscope",))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / PLAN, asked)
    say(cost(history, plan, missing, len(candidates)))
    for number in missing:
        while repeat.training.steps_done < number:
            repeat.advance()
        lines, rows = measure_step(repeat, repeat.next_step(), plan, candidates)
        repeat.training.steps_done += 1
        tokens, results = files_of_step(out, number)
        write_table(tokens, rows, schema_of(rows))
        write_json(results, {"off": finite(repeat.off), "lines": lines})
        yield lines
    say(f"old log-probabilities within {repeat.off:.3g} of those recorded")


def cost(history: History, plan: Plan, steps: Sequence[int], candidates: int) -> str:
    """What is still to be done, and how many responses it takes."""
    lengths = [len(row["tokens"]) for step in steps for row in trained_rows(history, step)]
    prefixes = sum(min(length, plan.prefixes) for length in lengths)
    fresh = len(steps) * plan.updates * plan.responses
    return (
        f"microscope of {history.path}: {candidates} candidates at {len(steps)} of {len(plan.steps)} steps, "
        f"{plan.updates} updates each; about {fresh:,} responses for the true gradient, at most "
        f"{prefixes * plan.continuations:,} from {prefixes:,} prefixes for the true credit"
    )


def checked_plan(out: Path, history: History, plan: Plan, candidates: Mapping[str, Candidate]) -> dict[str, Any]:
    """The content of microscope.json. Raises UsageError if `out` holds the results of another run or plan."""
    tables = {step: history.table_path("rollouts", step) for step in plan.steps}
    asked = {
        "run": history.path.name,
        "config_sha256": config_sha256(history.config),
        "rollouts_sha256": {str(step): sha256_of(path) for step, path in tables.items() if path.is_file()},
        "plan": asdict(plan) | {"steps": list(plan.steps)},
        "candidates": {name: asdict(candidate) for name, candidate in candidates.items()},
    }
    kept = (json_object(out / PLAN) or {}) if (out / PLAN).exists() else asked
    if differ := [name for name in asked if kept.get(name) != asked[name]]:
        raise UsageError(
            f"{out}: expected a new folder or one of this very plan, got another {' and '.join(differ)}: name another "
            "with --output_dir"
        )
    return asked


def measure_step(
    repeat: Repeat, step: Step, plan: Plan, candidates: Mapping[str, Candidate]
) -> tuple[list[Line], list[Line]]:
    """The step's lines, one per candidate and update, and its rows, one per segment and update; takes its updates."""
    training = repeat.training
    context, place = training.sampler_context(repeat.config), f"{repeat.history.path.name}, step {step.number}"
    output.part = place
    key: Key = (repeat.config.run.seed, "microscope", training.first_step + step.number)
    responses = [response for group in step.groups for response in group]
    found = monte_carlo_credit(context, responses, plan.prefixes, plan.continuations, key)
    credits = {response.key: credit for response, credit in zip(responses, found, strict=True)}
    of_step = probes(candidates, step.groups, training.task, training.updater)
    updates = list(step.updates(repeat.config.optimizer.epochs))
    lines: list[Line] = []
    rows: list[Line] = []
    for number, index in updates:
        if number in plan.chosen(len(updates)):
            output.part = f"{place}, update {number + 1} of {len(updates)}"
            truth = reference(context, plan.prompts, plan.group, (*key, number))
            here = {"step": step.number, "update": number}
            columns: dict[str, Column] = {}
            for name, probe in of_step.items():
                doing(f"gradient of {name}")
                norm, seen = probe.measure(index, step.known[index], credits)
                gradient = [parameter.grad for parameter in trained(probe.updater.policy.model)]
                lines.append(here | {"candidate": name} | truth.compared(gradient, norm))
                for column, values in seen.items():
                    columns.setdefault(f"weight/{name}" if column == "weight" else column, values)
            rows += [here | row for batch in step.minibatches[index] for row in segments(batch, credits, columns)]
        repeat.update(step, index)
    return lines, rows


def segments(batch: MicroBatch, credits: Credits, columns: Mapping[str, Column]) -> Iterator[Line]:
    """A row per segment of each response that is trained on, each column its mean over the segment's tokens."""
    trains = batch.tokens.mask.any(dim=1).tolist()
    for response, advantage, is_trained in zip(batch.responses, batch.group_advantages, trains, strict=True):
        credit, count = credits[response.key], len(response.tokens)
        lengths = credit.lengths(count)
        means = {
            name: np.add.reduceat(column[response.key], credit.starts) / lengths for name, column in columns.items()
        }
        for place, start in enumerate(credit.starts if is_trained else ()):
            first, second = credit.advantages[:, place]
            yield {
                "prompt_id": response.problem.prompt_id,
                "sample": response.sample,
                "start": start,
                "tokens": lengths[place],
                "response_tokens": count,
                "advantage": advantage,
                "value": float(credit.values[:, place].mean()),
                "credit_first": first,
                "credit_second": second,
                **{name: float(mean[place]) for name, mean in means.items()},
            }


def schema_of(rows: Sequence[Line]) -> pa.Schema:
    types = {"prompt_id": pa.string()} | dict.fromkeys(INTEGERS, pa.int32())
    return pa.schema([(name, types.get(name, pa.float64())) for name in (rows[0] if rows else FIXED)])
