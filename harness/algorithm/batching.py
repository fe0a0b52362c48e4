"""How a step's responses become minibatches and micro-batches: planned once, used for old and new log-probabilities."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.algorithm.controls import CREDIT_CONTROLS, credited
from harness.backends.ranks import ALONE, Ranks
from harness.config.schema import Config, OptimizerSettings
from harness.model.packing import TokenBatch, pack_batch
from harness.model.policy import Policy
from harness.rollouts.collect import Group, Response
from harness.tasks.task import Task
from losses import group_advantages


@dataclass(frozen=True)
class MicroBatch:
    """Responses that pass through the model together, with what the loss needs to know of them."""

    responses: list[Response]  # none in a batch without tokens to train on, which keeps a rank in step with the others
    tokens: TokenBatch
    advantages: Float[Tensor, "sequence token"]
    sampler_logprobs: Float[Tensor, "sequence token"] | None = None  # where another than the trainer drew the responses


def advantages_of(groups: list[Group], config: Config) -> list[float]:
    """The group-relative advantage of each response, in order."""
    rewards = torch.tensor([response.reward for group in groups for response in group], dtype=torch.float64)
    ids = torch.tensor([index for index, group in enumerate(groups) for _ in group], dtype=torch.int64)
    settings = config.loss
    advantages = group_advantages(rewards, ids, settings.advantage_std_eps, scale=settings.advantage_scale)
    return [float(value) for value in advantages]


def keyed_advantages(groups: list[Group], config: Config) -> dict[tuple[str, int], float]:
    """Each response's group-relative advantage."""
    responses = [response for group in groups for response in group]
    return {one.key: value for one, value in zip(responses, advantages_of(groups, config), strict=True)}


def plan_minibatches(
    groups: list[Group], policy: Policy, task: Task, config: Config, ranks: Ranks = ALONE
) -> list[list[MicroBatch]]:
    """This rank's micro-batches of the optimizer steps of one pass; every rank has equally many of each step.

    A step is whole groups in the order of their prompts, as even as they come. An unfilled batch makes smaller
    minibatches, and fewer only where there are fewer groups than minibatches.
    """
    advantages = iter(advantages_of(groups, config))
    paired = [[(response, next(advantages)) for response in group] for group in groups]
    parts = np.array_split(np.arange(len(groups)), config.optimizer.minibatches)
    minibatches = [[pair for index in part for pair in paired[index]] for part in parts if len(part)]
    return [micro_batches(minibatch, policy, task, config, ranks) for minibatch in minibatches]


Paired = list[tuple[Response, float]]  # responses, each with its advantage


def micro_batches(
    minibatch: Paired, policy: Policy, task: Task, config: Config, ranks: Ranks = ALONE
) -> list[MicroBatch]:
    """This rank's share of one optimizer step's responses, made up with idle batches."""
    parts = split(minibatch, config.optimizer, ranks.world)
    batches = [micro_batch(part, policy, task, config) for part in ranks.share(parts)]
    is_short = len(batches) < -(-len(parts) // ranks.world)
    return [*batches, idle_batch(parts[0][0][0], policy)] if is_short else batches


def split(minibatch: Paired, settings: OptimizerSettings, world: int) -> list[Paired]:
    """Those that pass through the model together: `micro_batch_size` in order, or `micro_batch_tokens` by length.

    Whichever stand together, the step is the same: the losses' weights are the whole step's.
    """
    if settings.micro_batch_tokens is None:
        size = settings.micro_batch_size or -(-len(minibatch) // world)
        return [minibatch[start : start + size] for start in range(0, len(minibatch), size)]
    whole = sum(text_tokens(response) for response, _ in minibatch)
    budget = min(settings.micro_batch_tokens, -(-whole // world))  # so that no rank is idle while another has it all
    parts: list[Paired] = []
    room = 0
    for pair in sorted(minibatch, key=lambda pair: -text_tokens(pair[0])):
        if text_tokens(pair[0]) > room:
            parts.append([])
            room = budget
        parts[-1].append(pair)
        room -= text_tokens(pair[0])
    return parts


def text_tokens(response: Response) -> int:
    """Tokens of the prompt and the response."""
    return len(response.prompt_tokens) + len(response.tokens)


def micro_batch(part: Paired, policy: Policy, task: Task, config: Config) -> MicroBatch:
    """These responses together; under `overlong_filter` those cut at the limit stand in no loss and no average.

    They stay in their groups' mean and spread (DAPO section 3.4: "masks the loss of truncated samples").
    """
    responses = [response for response, _ in part]
    tokens = pack_batch([r.prompt_tokens for r in responses], [r.tokens for r in responses], policy.device)
    if config.task.overlong_filter:
        complete = torch.tensor([not response.truncated for response in responses], device=policy.device)
        tokens = dataclasses.replace(tokens, mask=tokens.mask & complete[:, None])
    advantages = [
        value for response, advantage in part for value in token_advantages(response, advantage, policy, task, config)
    ]
    sampled = [logprob for response in responses for logprob in response.sampler_logprobs]
    spread = [tokens.spread(torch.tensor(values, device=policy.device)) for values in (advantages, sampled)]
    return MicroBatch(responses, tokens, *spread)


def idle_batch(response: Response, policy: Policy) -> MicroBatch:
    """A token of a response, masked: a forward and a backward pass that add nothing to any gradient."""
    tokens = pack_batch([response.prompt_tokens[-1:]], [response.tokens[:1]], policy.device)
    masked = dataclasses.replace(tokens, mask=torch.zeros_like(tokens.mask))
    zeros = torch.zeros(tokens.mask.shape, device=policy.device)
    return MicroBatch([], masked, zeros, zeros)


def token_advantages(response: Response, advantage: float, policy: Policy, task: Task, config: Config) -> list[float]:
    """The response's advantage on each of its tokens; planted controls of token credit lay a negative one elsewhere."""
    control = config.task.control
    if control not in CREDIT_CONTROLS or advantage >= 0:
        return [advantage] * len(response.tokens)
    return credited(response, advantage, control, (policy, task, config.run.seed))
