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
    at_a_time = max(1, context.config.responses_per_step // count)
    for start in range(0, len(prefixes), at_a_time):
        yield from _drawn(context, prefixes[start : start + at_a_time], count, key)


def _drawn(context: SamplerContext, prefixes: Sequence[Prefix], count: int, key: Key) -> list[list[Completion]]:
    policy, limit = context.policy, context.config.rollout.max_response_tokens
    prompts = [policy.encode(problem.prompt) + list(tokens) for problem, tokens in prefixes]
    keys: list[Key] = [
        (*key, problem.prompt_id, *tokens, "sample", j) for problem, tokens in prefixes for j in range(count)
    ]
    longest = limit - min(len(tokens) for _, tokens in prefixes)
    drawn = context.actors.generate(prompts, keys, Sampling(longest, context.config.rollout.temperature))
    asked = [prefix for prefix in prefixes for _ in range(count)]
    whole = [_continued(tokens, sample, limit) for (_, tokens), sample in zip(asked, drawn, strict=True)]
    grades = grade_samples(policy, context.task, [problem for problem, _ in asked], whole)
    graded = [(sample, grade.outcome == "right") for sample, (_, grade) in zip(whole, grades, strict=True)]
    return [graded[start : start + count] for start in range(0, len(graded), count)]


def _continued(prefix: Sequence[int], sample: Sample, limit: int) -> Sample:
    """The response that the sample completes, cut at the limit of a whole response."""
    tokens = [*prefix, *sample.tokens]
    return replace(sample, tokens=tokens[:limit], truncated=sample.truncated or len(tokens) > limit)
