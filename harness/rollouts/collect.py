"""Collects a step's rollouts: draws prompts, samples and scores responses and, with dynamic sampling, repeats."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

from harness.backends.ranks import Ranks
from harness.errors import HarnessError
from harness.randomness import stream
from harness.rollouts.engine import SamplerContext
from harness.rollouts.sampler import Sample, Sampling
from harness.rollouts.scoring import graded_responses, overlong_penalty, rewarded
from harness.tasks.task import TRAINED_ON, Grade, Problem


@dataclass(frozen=True)
class Response:
    problem: Problem
    step: int  # training step in the keys of its draws, which counts those before --start_from
    sample: int  # index among the prompt's responses
    round: int  # sampling round of the step
    prompt_tokens: list[int]
    tokens: Sequence[int]  # end token included; like `sampler_logprobs` an array, at a tenth of a list's memory
    text: str
    entropy_sum: float  # nats, over its tokens
    sampler_logprobs: Sequence[float]  # of its tokens, under the engine that sampled them
    truncated: bool
    grade: Grade
    score: float  # reward without overlong penalty; dynamic sampling compares scores
    reward: float  # score plus overlong penalty
    rewards: dict[str, float] = field(default_factory=dict)  # under --reward, each by name, not weighted

    @property
    def correct(self) -> bool:
        """Whether the answer is right, regardless of the reward."""
        return self.grade.outcome == "right"

    @property
    def key(self) -> tuple[str, int]:
        """Identity within a step: prompt and sample."""
        return self.problem.prompt_id, self.sample


Group = list[Response]  # the responses to one prompt


@dataclass(frozen=True)
class Rollouts:
    """All groups of a step by sampling round, and those to train on."""

    rounds: list[list[Group]]
    kept: list[Group]
    missing: int  # number of groups by which the batch falls short

    @property
    def responses(self) -> list[Response]:
        """Every response of the step, discarded ones included."""
        return [response for groups in self.rounds for group in groups for response in group]


def informative(group: Group) -> bool:
    """Whether the group's scores differ; otherwise all its advantages are 0 (DAPO eq. 11)."""
    return len({response.score for response in group}) > 1


def collect(context: SamplerContext, step: int) -> Rollouts:
    """The step's rollouts, from all ranks. Surplus groups are dropped in prompt order, not by order of completion.

    Raises HarnessError under --unfilled stop if the sampling rounds do not fill the batch.
    """
    rollout, keyed = context.config.rollout, context.first_step + step
    wanted = rollout.prompts_per_step
    rounds: list[list[Group]] = []
    kept: list[Group] = []
    seen: set[str] = set()
    limit = rollout.max_sampling_rounds if rollout.dynamic_sampling else 1
    while len(kept) < wanted and len(rounds) < limit:
        problems = problems_of(context, keyed, len(rounds), seen)
        if not problems:
            break
        ranks = context.ranks
        rounds.append(merged(answer_share(context, (keyed, len(rounds)), ranks.share(problems)), ranks))
        kept += [group for group in rounds[-1] if informative(group) or not rollout.dynamic_sampling]
    missing = max(0, wanted - len(kept))
    if missing and rollout.unfilled == "stop":
        raise HarnessError(
            f"step {step}: expected {wanted} groups with both right and wrong answers, got {len(kept)} in "
            f"{len(rounds)} rounds: raise --max_sampling_rounds, or train on smaller batches with --unfilled train"
        )
    return Rollouts(rounds, kept[:wanted], missing)


def merged(own: list[Group], ranks: Ranks) -> list[Group]:
    """The groups of all ranks, in the order of their prompts. Collective. Only what is not an array is sent as JSON."""
    if ranks.world == 1:
        return own
    responses = [response for group in own for response in group]
    bare = [[replace(response, tokens=(), sampler_logprobs=()) for response in group] for group in own]
    shares = ranks.gather((bare, [len(one.tokens) for one in responses]), tuple[list[Group], list[int]])
    tokens = ranks.gather_array(array("i", b"".join(array("i", one.tokens) for one in responses)))
    logprobs = ranks.gather_array(array("d", b"".join(array("d", one.sampler_logprobs) for one in responses)))
    return ranks.in_order([filled(*parts) for parts in zip(shares, tokens, logprobs, strict=True)])


def filled(share: tuple[list[Group], list[int]], tokens: "array[int]", logprobs: "array[float]") -> list[Group]:
    """A rank's groups with each response's stretch of the tokens and log-probabilities, from their lengths."""
    bare, lengths = share
    stretches = pairwise(accumulate(lengths, initial=0))
    return [
        [
            replace(one, tokens=tokens[start:stop], sampler_logprobs=logprobs[start:stop])
            for one, (start, stop) in zip(group, stretches, strict=False)
        ]
        for group in bare
    ]


def problems_of(context: SamplerContext, keyed: int, round_number: int, seen: set[str]) -> list[Problem]:
    """The problems of a sampling round; `seen` has the ids of the step's earlier ones, and gets theirs.

    keyed: the step in the keys of its draws.
    """
    config, rollout = context.config, context.config.rollout
    asked = (rollout.prompts_per_round if rollout.dynamic_sampling else None) or rollout.prompts_per_step
    generator = stream(config.run.seed, "data", keyed, round_number)
    return context.task.draw_problems(TRAINED_ON[config.evaluation.eval_split], asked, generator, seen)


def answer_share(context: SamplerContext, place: tuple[int, int], problems: Sequence[Problem]) -> list[Group]:
    """A group of scored responses for each of this rank's problems; `place` is (step, sampling round)."""
    config, rollout, (step, round_number) = context.config, context.config.rollout, place
    seed, size, limit = config.run.seed, rollout.group_size, rollout.max_response_tokens

    def scored(problem: Problem, j: int, drawn: Sample, text: str, grade: Grade) -> Response:
        key = (seed, step, problem.prompt_id, j)
        score, parts = rewarded(context.rewards, problem, (text, grade), config.task, key)
        return Response(
            problem=problem,
            step=step,
            sample=j,
            round=round_number,
            prompt_tokens=prompts[problem.prompt_id],
            tokens=array("i", drawn.tokens),
            text=text,
            entropy_sum=drawn.entropy_sum,
            sampler_logprobs=array("d", drawn.logprobs),
            truncated=drawn.truncated,
            grade=grade,
            score=score,
            reward=score + overlong_penalty(len(drawn.tokens), limit, config.task),
            rewards=parts,
        )

    prompts = {problem.prompt_id: context.policy.encode(problem.prompt) for problem in problems}
    sampling = Sampling(limit, rollout.temperature)
    drawn = graded_responses(context, problems, size, (seed, "rollout", step), sampling)
    responses = [scored(*one) for one in drawn]
    return [responses[start : start + size] for start in range(0, len(responses), size)]
