"""Responses that the current policy draws anew, from a prompt or from any prefix of a response, and their grades."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.rollouts.engine import Key, SamplerContext
from harness.rollouts.sampler import Sample, Sampling
from harness.rollouts.scoring import grade_samples
from harness.tasks.task import Problem

Prefix = tuple[Problem, tuple[int, ...]]  # and the first tokens of a response to it
Completion = tuple[Sample, bool]  # the whole response, prefix included, and whether it is right


def completions(
    context: SamplerContext, prefixes: Sequence[Prefix], count: int, key: Key
) -> Iterator[list[Completion]]:
    """`count` responses from each prefix, in order; about as many at a time as in a training step.

    They are drawn at the temperature and the token limit of training. Response j to a prefix depends on the weights,
    `key`, the prefix and j alone.
    """
    policy, rollout = context.policy, context.config.rollout
    at_a_time = max(1, context.config.responses_per_step // count)
    for start in range(0, len(prefixes), at_a_time):
        asked = [(*prefix, j) for prefix in prefixes[start : start + at_a_time] for j in range(count)]
        drawn = context.actors.generate(
            [policy.encode(problem.prompt) + list(tokens) for problem, tokens, j in asked if j == 0],
            [(*key, problem.prompt_id, *tokens, "sample", j) for problem, tokens, j in asked],
            Sampling(rollout.max_response_tokens - min(len(tokens) for _, tokens, _ in asked), rollout.temperature),
        )
        whole = [
            continued(tokens, sample, rollout.max_response_tokens)
            for (_, tokens, _), sample in zip(asked, drawn, strict=True)
        ]
        grades = grade_samples(policy, context.task, [problem for problem, _, _ in asked], whole)
        graded = [(sample, grade.outcome == "right") for sample, (_, grade) in zip(whole, grades, strict=True)]
        yield from (graded[first : first + count] for first in range(0, len(graded), count))


def continued(prefix: Sequence[int], sample: Sample, limit: int) -> Sample:
    """The response that the sample completes, cut at the limit of a whole response."""
    tokens = [*prefix, *sample.tokens]
    return replace(sample, tokens=tokens[:limit], truncated=sample.truncated or len(tokens) > limit)
