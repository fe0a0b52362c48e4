"""Turns recorded rollouts back into the objects that they were written from."""

import math
from collections.abc import Sequence
from itertools import groupby

from harness.errors import UsageError
from harness.model.policy import Policy
from harness.rollouts.collect import Group, Response
from harness.run.history import History, Row
from harness.tasks.task import Grade, Problem


def check_rollouts(history: History, steps: range) -> None:
    """Raise UsageError unless the rollouts of all these steps are stored."""
    missing = [step for step in steps if not history.has_table("rollouts", step)]
    if missing:
        raise UsageError(
            f"{history.path}: expected stored rollouts of steps {steps.start} to {steps.stop - 1}, got none of step "
            f"{missing[0]}: use a run made with --record_rollouts all, or start at a checkpoint with --first_step"
        )


def trained_rows(history: History, step: int) -> list[Row]:
    """The rows of the responses that a step trained on, in the order of their prompts."""
    rows = history.table("rollouts", step) or []
    if rows and "old_logprobs" not in rows[0]:
        raise UsageError(
            f"{history.path}: expected rollouts with old_logprobs and target, got those of an older version"
        )
    return [row for row in rows if row["trained"]]


def groups_of(rows: Sequence[Row], policy: Policy) -> list[Group]:
    """The responses, grouped by prompt. Scores and entropies are not recorded, so they are NaN."""
    groups = groupby(rows, key=lambda row: str(row["prompt_id"]))
    return [[response_of(row, policy) for row in group] for _, group in groups]


def response_of(row: Row, policy: Policy) -> Response:
    return Response(
        problem=Problem(row["prompt"], row["target"]),
        step=row["step"],
        sample=row["sample"],
        round=row["round"],
        prompt_tokens=policy.encode(row["prompt"]),
        tokens=row["tokens"],
        text=row["text"],
        entropy_sum=math.nan,
        sampler_logprobs=row.get("sampler_logprobs") or [math.nan] * len(row["tokens"]),
        truncated=row["truncated"],
        grade=Grade(row["outcome"], None, row["why"]),
        score=math.nan,
        reward=row["reward"],
    )
