"""Evaluates a model on benchmarks. The answers are written in parts, so that repeating the command resumes it.

evaluation.json    the weights, settings and problems; fixed at the start
answers/           a parquet file per part, with the columns of a run's evals/
results.json       scores by benchmark and problem, written at the end
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.config.resolve import config_sha256, flatten, tree_of
from harness.console import say
from harness.errors import UsageError, first_line
from harness.evaluation.scores import results_of
from harness.files import json_object, make_synced, write_json, write_table
from harness.rollouts.engine import SamplerContext
from harness.rollouts.held_out import Answer, answers_to
from harness.run.environment import environment
from harness.run.record import EVAL_SCHEMA, make_folder, refuse_used_folder
from harness.tasks.own_files import own_code_hashes
from harness.tasks.task import Problem

PART_ANSWERS = 256
EVALUATION, ANSWERS, RESULTS = "evaluation.json", "answers", "results.json"
IDENTITY = ("model_sha256", "config_sha256", "step", "suites", "targets", "code")  # must be equal to resume


def evaluate_model(context: SamplerContext, step: int, out: Path) -> dict[str, Any]:
    """Draw the answers that are missing in the folder; returns the content of results.json.

    Raises UsageError if the folder holds anything other than this evaluation.
    """
    settings = context.config.evaluation
    samples, problems = settings.eval_samples, context.task.held_out(settings.eval_split, settings.eval_prompts)
    asked = description(context, step, problems)
    begin(out, asked)
    size = max(1, PART_ANSWERS // samples)
    starts = range(0, len(problems), size)
    parts = {out / ANSWERS / f"part_{number:06d}.parquet": start for number, start in enumerate(starts)}
    missing = {path: start for path, start in parts.items() if not path.is_file()}
    if 0 < len(missing) < len(parts):
        say(f"resuming {out}: {len(parts) - len(missing)} of {len(parts)} parts are done")
    for path, start in missing.items():
        drawn = answers_to(problems[start : start + size], context, (step, samples))
        answers = [answer for of_one in drawn for answer in of_one]
        write_table(path, [asdict(answer) for answer in answers], EVAL_SCHEMA)
        right = sum(answer.correct for answer in answers) / len(answers)
        say(f"{path.stem} of {len(parts)}: {len(answers)} answers, {right:.3f} right")
    prompts = [problem.prompt_id for problem in problems for _ in range(samples)]
    kept = [read_part(path, prompts[start * samples : (start + size) * samples]) for path, start in parts.items()]
    results = results_of([answer for part in kept for answer in part], asked["suites"])
    write_json(out / RESULTS, results)
    return results


def suites_of(context: SamplerContext, problems: Sequence[Problem]) -> dict[str, list[str]]:
    """Prompt ids by benchmark. A task without data files counts as a single benchmark."""
    data = context.task.facts.get("data")
    asked = [problem.prompt_id for problem in problems]
    if not data or context.config.evaluation.eval_split == "tune":
        return {context.config.task.task: asked}
    known = set(asked)
    return {
        name: [prompt for prompt in one["prompt_ids"] if prompt in known] for name, one in data["evaluation"].items()
    }


def description(context: SamplerContext, step: int, problems: Sequence[Problem]) -> dict[str, Any]:
    """The content of evaluation.json."""
    config = context.config
    where = environment(context.policy, problems, config)
    return {
        "schema_version": 1,
        "kind": "evaluation",
        "model": config.model.model,
        "model_sha256": where["model_sha256"],
        "config_sha256": config_sha256(config),
        "samples": config.evaluation.eval_samples,
        "step": step,
        "suites": suites_of(context, problems),
        "targets": {problem.prompt_id: problem.answer for problem in problems},
        "config": tree_of(config),
        "environment": where | dict(context.task.facts),
        "code": own_code_hashes(config),
    }


def begin(out: Path, wanted: dict[str, Any]) -> None:
    """Create the folder, or check that it belongs to this evaluation. Raises UsageError if it does not."""
    kept = json_object(out / EVALUATION)
    if kept is None:
        refuse_used_folder(out)
        make_folder(out)
        make_synced(out / ANSWERS)
        write_json(out / EVALUATION, wanted)
        return
    for name in IDENTITY:
        if kept.get(name, {}) != wanted[name]:
            raise UsageError(
                f"--output_dir: expected the evaluation in {str(out)!r} to be continued, got one with another "
                f"{changed(kept, wanted) if name == 'config_sha256' else name}: name a new folder"
            )


def changed(kept: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The flag of the first setting that differs."""
    then, now = (flatten({"config": one.get("config") or {}}) for one in (kept, wanted))
    return next((f"--{flag}" for flag in now if flag != "output_dir" and then.get(flag) != now[flag]), "config")


def read_part(path: Path, prompts: Sequence[str]) -> list[Answer]:
    """The answers in a part. prompts: the prompt id of each. Raises UsageError if the file holds anything else."""
    try:
        answers = [Answer(**row) for row in pq.read_table(path).to_pylist()]
        if [answer.prompt_id for answer in answers] != list(prompts):
            raise ValueError(f"answers to other prompts, or not {len(prompts)} of them")
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise UsageError(f"{path}: expected answers, got: {first_line(error)}: delete it to draw them again") from None
    return answers
