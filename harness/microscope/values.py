"""Monte Carlo credit: by how much each token, or run of tokens, of a response changed the chance of a right answer.

V(prefix) is the policy's accuracy when it continues from the prefix, the mean over K independent continuations. A
segment's advantage is the value after it minus the value before it; after the last one the value is the outcome
itself. So a response's advantages sum to its outcome minus V(prompt), and each is unbiased. (VinePPO, Kazemnejad et
al. 2024, arXiv 2410.01679, uses the same as a training signal.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from harness.console import doing
from harness.rollouts.collect import Response
from harness.rollouts.engine import Key, SamplerContext
from harness.rollouts.sampler import Sample, Sampling
from harness.rollouts.scoring import grade_samples
from harness.tasks.task import Problem

Prefix = tuple[Problem, tuple[int, ...]]  # and the first tokens of a response to it
Completion = tuple[Sample, bool]  # the whole response, prefix included, and whether it is right


@dataclass(frozen=True)
class Credit:
    """The credit of one response's segments, from two independent halves of the continuations."""

    starts: list[int]  # the token at which each segment starts, 0 first
    values: Float[np.ndarray, "2 segment"]  # before each segment
    outcome: bool

    @property
    def advantages(self) -> Float[np.ndarray, "2 segment"]:
        after = np.append(self.values[:, 1:], np.full((2, 1), float(self.outcome)), axis=1)
        advantages: np.ndarray = after - self.values
        return advantages

    def by_token(self, tokens: int) -> Float[np.ndarray, " token"]:
        """Each token's advantage, that of its segment, over all continuations."""
        return np.repeat(self.advantages.mean(axis=0), self.lengths(tokens))

    def lengths(self, tokens: int) -> list[int]:
        """Tokens per segment of a response of so many tokens."""
        return [after - start for start, after in zip(self.starts, [*self.starts[1:], tokens], strict=True)]


def segment_starts(tokens: int, most: int) -> list[int]:
    """At most `most` segments, as equal in length as can be; a token each where that is enough."""
    count = min(tokens, most)
    return [tokens * index // count for index in range(count)]


def monte_carlo_credit(
    context: SamplerContext, responses: Sequence[Response], segments: int, continuations: int, key: Key
) -> list[Credit]:
    """The credit of each response under the current policy, with at most so many segments each.

    Equal prefixes, of which every group of responses has one, are continued once.
    """
    starts = [segment_starts(len(response.tokens), segments) for response in responses]
    prefixes: list[list[Prefix]] = [
        [(response.problem, tuple(response.tokens[:start])) for start in its]
        for response, its in zip(responses, starts, strict=True)
    ]
    wanted = sorted({one for each in prefixes for one in each}, key=lambda one: (len(one[1]), one[0].prompt, one[1]))
    values: dict[Prefix, list[float]] = {}
    for prefix, drawn in zip(wanted, completions(context, wanted, continuations, (*key, "value")), strict=True):
        right = np.array([is_right for _, is_right in drawn], dtype=float)
        values[prefix] = [half.mean() for half in np.array_split(right, 2)]
        doing(f"values: {len(values):,} of {len(wanted):,} prefixes")
    return [
        Credit(its, np.array([values[prefix] for prefix in each]).T, response.correct)
        for response, its, each in zip(responses, starts, prefixes, strict=True)
    ]


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
        drawn = context.engine.generate(
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
